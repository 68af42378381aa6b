"""A stand-in for mamba_ssm on this project's scan, for code that imports that package.

>>> from mmv2m.ops import mamba_ssm_stand_in
>>> mamba_ssm_stand_in.install()

From then on these imports work without mamba_ssm, without a CUDA build, and on a CPU:

- ``mamba_ssm.ops.selective_scan_interface``, from which MambaVision imports ``selective_scan_fn``,
  and Mamba and Vim import ``mamba_inner_fn``, ``mamba_inner_fn_no_out_proj`` and
  ``bimamba_inner_fn``;
- ``selective_scan_cuda``, ``selective_scan_cuda_oflex`` and ``selective_scan_cuda_core``, the
  extensions that VMamba calls;
- ``causal_conv1d``, unless that package is installed;
- ``mamba_ssm.ops.triton.layer_norm``, in earlier versions ``layernorm``, if there is no GPU. The
  original runs only on a GPU.

Python finds other modules of ``mamba_ssm`` as usual, for example in the copy in Vim's repository,
or in an installed package whose CUDA part has not been built.
"""

import importlib.machinery
import importlib.util
import sys
from types import ModuleType

import torch

from . import causal_conv1d, extension, interface, norms

__all__ = ['install', 'is_installed']

INTERFACE = 'mamba_ssm.ops.selective_scan_interface'
EXTENSIONS = {
    'selective_scan_cuda': (extension.fwd, extension.bwd),
    'selective_scan_cuda_oflex': (extension.fwd_oflex, extension.bwd_oflex),
    'selective_scan_cuda_core': (extension.fwd_oflex, extension.bwd_oflex),
}
_OURS: dict[str, ModuleType] = {}


def is_installed() -> bool:
    """Whether the stand-in is installed as ``mamba_ssm``'s scan."""
    return INTERFACE in _OURS and sys.modules.get(INTERFACE) is _OURS[INTERFACE]


def install() -> None:
    """Make the imports above find the stand-ins.

    Call it after the folders of official code are on ``sys.path``, and before anything imports the
    originals. A second call does nothing.

    Raises:
        RuntimeError: If one of the originals has been imported already.
    """
    if is_installed():
        return
    for name in sorted(sys.modules):
        if name in EXTENSIONS or name.split('.')[0] == 'mamba_ssm':
            path = getattr(sys.modules[name], '__file__', None) or 'a package without a file'
            raise RuntimeError(
                f'{name} has been imported already ({path}); call install() before anything '
                'imports it'
            )
    has_package = importlib.util.find_spec('mamba_ssm') is not None
    has_conv = importlib.util.find_spec('causal_conv1d') is not None
    for name in () if has_package else ('mamba_ssm', 'mamba_ssm.ops'):
        _put_package(name)
    _put(INTERFACE, {name: getattr(interface, name) for name in interface.__all__})
    # The backend 'mamba_ssm' looks for this mark. Otherwise, it would call itself.
    vars(_OURS[INTERFACE])['STANDS_IN_FOR_MAMBA_SSM'] = True
    for name, (forward, backward) in EXTENSIONS.items():
        _put(name, dict(fwd=forward, bwd=backward))
    if not has_conv:
        _put('causal_conv1d', {n: getattr(causal_conv1d, n) for n in causal_conv1d.__all__})
    for name in () if torch.cuda.is_available() else ('layer_norm', 'layernorm'):
        _put(f'mamba_ssm.ops.triton.{name}', {n: getattr(norms, n) for n in norms.__all__})


def _put(name: str, content: dict) -> ModuleType:
    """Make a module that can be imported by its name."""
    module = ModuleType(name, f"mmv2m's stand-in for {name}.")
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(content)
    sys.modules[name] = _OURS[name] = module
    return module


def _put_package(name: str) -> None:
    """Make a package without modules of its own."""
    module = _put(name, {})
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    if '.' in name:
        parent, _, child = name.rpartition('.')
        setattr(sys.modules[parent], child, module)
