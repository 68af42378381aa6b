"""Where mmv2m's classes are registered, and how a config finds them.

Every class is registered once, in mmengine's root registries, so that a bare ``type='V2M'``
resolves under the default scope of mmpretrain, mmdet and mmseg alike once
``custom_imports = dict(imports=['mmv2m.models'])`` has run. The child registries below carry the
scope ``mmv2m`` and know where the classes live: with them ``type='mmv2m.V2M'`` resolves without
any import, because mmengine imports ``mmv2m.registry`` by itself.
"""

from mmengine.registry import DATASETS, HOOKS, MODELS, Registry

__all__ = ['DATASETS', 'HOOKS', 'MODELS']

SCOPED_MODELS = Registry('model', parent=MODELS, scope='mmv2m', locations=['mmv2m.models'])
SCOPED_DATASETS = Registry('dataset', parent=DATASETS, scope='mmv2m', locations=['mmv2m.datasets'])
SCOPED_HOOKS = Registry('hook', parent=HOOKS, scope='mmv2m', locations=['mmv2m.engine'])
