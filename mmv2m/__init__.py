"""V2M: Visual 2-Dimensional Mamba, for the OpenMMLab libraries.

Importing this package imports neither PyTorch nor any OpenMMLab library. The operators are in
``mmv2m.ops``, which needs PyTorch only. The models are in ``mmv2m.models``.
"""

from pathlib import Path

from .version import __version__

__all__ = ['__version__']

# The operators live in the repository's top-level folder ops/ and become mmv2m/ops when installed.
# Inside a clone, Python imports the clone's mmv2m/. It has no ops/ in it, which lies beside it.
_package = Path(__file__).parent
if not (_package / 'ops').exists() and (_package.parent / 'ops' / '__init__.py').exists():
    __path__.append(str(_package.parent))
