"""The functions that ``timm.create_model`` calls: one for each name, in timm's registry."""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from .model import Classifier, FeatureMaps, with_own_names
from .names import BACKBONES

__all__: list[str] = []

default_cfgs = generate_default_cfgs(
    {name: dict(classifier='head.fc', crop_pct=224 / 256) for name in BACKBONES}
)
"""How timm's tools prepare images. No weights are published under these names."""


def _entry_point(name: str) -> Callable[..., nn.Module]:
    """Return the function that ``timm.create_model(name)`` calls."""
    build: Any = partial(build_model_with_cfg, pretrained_filter_fn=with_own_names)

    def create(pretrained: bool = False, **settings: Any) -> nn.Module:
        if not settings.get('features_only'):
            return build(partial(Classifier, name), name, pretrained, **settings)
        wanted = settings.pop('out_indices', (0, 1, 2, 3))
        # timm reads an int as the number of stages, counted from the last one.
        stages = range(-wanted, 0) if isinstance(wanted, int) else wanted
        return build(
            partial(FeatureMaps, name, tuple(stages)),
            name,
            pretrained,
            feature_cfg=dict(feature_cls=lambda model, out_indices: model),
            kwargs_filter=('num_classes', 'global_pool', 'drop_rate'),
            **settings,
        )

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f'The model {name}; see :class:`mmv2m.timm.Classifier`.'
    return create


for _name in BACKBONES:
    globals()[_name] = register_model(_entry_point(_name))
