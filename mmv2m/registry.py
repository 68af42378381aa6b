"""The registries of mmv2m's classes.

Every class is registered once, in mmengine's root registries. After
``custom_imports = dict(imports=['mmv2m.models'])``, a bare ``type='V2M'`` resolves under the
default scopes of mmpretrain, mmdet and mmseg. The child registries below have the scope ``mmv2m``
and name the modules of the classes. With them ``type='mmv2m.V2M'`` resolves without any import,
because mmengine imports ``mmv2m.registry`` by itself.

Raises:
    ImportError: If mmengine or mmcv is missing. ``mmv2m.ops`` works without them.
"""

try:
    import mmcv  # noqa: F401
    from mmengine.registry import (
        DATASETS,
        HOOKS,
        MODELS,
        OPTIM_WRAPPER_CONSTRUCTORS,
        TRANSFORMS,
        Registry,
    )
except ModuleNotFoundError as error:
    raise ImportError(
        f'{error.name} is not installed. Everything in mmv2m except mmv2m.ops needs mmengine and '
        'mmcv: pip install onedl-mmengine onedl-mmcv (or the original mmengine and mmcv)'
    ) from error

from .packages import leave_out_multimodal

__all__ = ['DATASETS', 'HOOKS', 'MODELS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'TRANSFORMS']

leave_out_multimodal()

SCOPED_MODELS = Registry(
    'model', parent=MODELS, scope='mmv2m', locations=['mmv2m.models', 'mmv2m.engine']
)
SCOPED_DATASETS = Registry('dataset', parent=DATASETS, scope='mmv2m', locations=['mmv2m.datasets'])
SCOPED_TRANSFORMS = Registry(
    'transform', parent=TRANSFORMS, scope='mmv2m', locations=['mmv2m.datasets']
)
SCOPED_HOOKS = Registry('hook', parent=HOOKS, scope='mmv2m', locations=['mmv2m.engine'])
SCOPED_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmv2m',
    locations=['mmv2m.engine'],
)
