"""The backbones as models of timm: after this import, ``timm.create_model`` knows their names.

Raises:
    ImportError: If timm is not installed.
"""

try:
    import timm  # noqa: F401
except ImportError as error:
    raise ImportError('mmv2m.timm needs timm: pip install timm') from error

from . import entry_points  # noqa: F401
from .model import Classifier, FeatureMaps
from .names import BACKBONES

__all__ = ['BACKBONES', 'Classifier', 'FeatureMaps']
