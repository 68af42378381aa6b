"""A backbone as timm's users expect a model: with its classifier, or as maps of several strides."""

from collections.abc import Sequence
from typing import Any

from timm.models import FeatureInfo
from torch import Tensor, nn

from mmv2m.utils.hub import HubMixin
from mmv2m.utils.official_weights import ALL_CONVERTERS, recognise
from mmv2m.utils.quiet import without_information

from .names import BACKBONES

__all__ = ['Classifier', 'FeatureMaps', 'with_own_names']

POOLS = ('token', 'avg', '')


class _TimmModel(nn.Module):
    """What both have: the backbone, and what timm's optimizers and tools ask of a model.

    Args:
        name: A key of :data:`~.names.BACKBONES`.
        **settings: The backbone's; ``img_size`` may be given to any, and makes no difference to
            those that have no positions.
    """

    def __init__(self, name: str, in_chans: int, **settings: Any) -> None:
        super().__init__()
        if name not in BACKBONES:
            raise ValueError(f'name must be one of {", ".join(BACKBONES)}, but got {name!r}')
        cls, arch = BACKBONES[name]
        if 'img_size' not in cls.arguments():
            settings.pop('img_size', None)
        self.in_chans = in_chans
        self.backbone = cls(**dict(arch=arch, in_channels=in_chans) | settings)
        with without_information():
            self.backbone.init_weights()
        self.register_load_state_dict_pre_hook(_rename_official)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.backbone.with_cp = enable

    def no_weight_decay(self) -> set[str]:
        """Parameters that should not decay, besides those with one dimension."""
        kept = ('.A_log', '.pos_embed', '.class_token')
        return {n for n, _ in self.named_parameters() if any(part in n for part in kept)}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Regular expressions of timm's layer-wise decay: the stem, each block, output norms.

        Args:
            coarse: A layer for each stage instead of each block.
        """
        place = r'^backbone\.stages\.(\d+)' if coarse else r'^backbone\.stages\.(\d+)\.(\d+)'
        return dict(
            stem=r'^backbone\.(?!stages|norm)',
            blocks=[(place, None), (r'^backbone\.norm', (99999,))],
        )


class _Head(nn.Module):
    """Dropout and a linear layer, by mmpretrain's names."""

    def __init__(self, drop_rate: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Identity()

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.drop(x)
        return x if pre_logits else self.fc(x)


class Classifier(_TimmModel, HubMixin):
    """A backbone and a linear classifier, with timm's methods and mmpretrain's names of weights.

    So weights of an ``ImageClassifier`` of mmpretrain with a ``LinearClsHead``, and official ones,
    load as they are.

    Args:
        name: A name that timm knows, such as ``'v2m_tiny'``.
        num_classes: Classes; 0 for none, then features come out. Defaults to 1000.
        in_chans: Channels of the image; weights for three are fitted to it. Defaults to 3.
        global_pool: ``'token'``, the class token, or the mean where there is none; ``'avg'``, the
            mean over the patches; ``''``, no pooling. Defaults to ``'token'``.
        drop_rate: Dropout in front of the classifier. Defaults to 0.
        **settings: Of the backbone, such as ``img_size``, ``drop_path_rate``, ``patch_size`` or
            ``corners``, or an ``arch`` of other sizes; see its class.

    Attributes:
        num_features: Width of the features that the classifier takes.
        feature_info: Of each stage: width (``num_chs``), stride (``reduction``) and ``module``.

    Raises:
        ValueError: If the name or a setting is unknown or impossible.
        TypeError: If the backbone has no such setting, or a classifier leaves it no choice.
    """

    def __init__(
        self,
        name: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = 'token',
        drop_rate: float = 0.0,
        **settings: Any,
    ) -> None:
        if 'out_type' in settings:
            raise TypeError('a classifier reads features as global_pool says: leave out_type out')
        super().__init__(name, in_chans, **settings)
        if len(self.backbone.out_indices) > 1:
            raise ValueError(
                'a classifier reads one stage: out_indices must name one, but got '
                f'{settings["out_indices"]!r}'
            )
        self.num_features = self.head_hidden_size = self.backbone.out_channels[-1]
        self.feature_info = _feature_info(self.backbone)
        self.global_pool = global_pool
        self.head = _Head(drop_rate)
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self) -> nn.Module:
        """The linear layer, or an identity where there are no classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new classifier in the place of the old one.

        Args:
            num_classes: Classes; 0 for none.
            global_pool: As for the class; None leaves it as it is.

        Raises:
            ValueError: If there is no such pooling, or classes would get features not pooled.
        """
        pool: str = self.global_pool if global_pool is None else global_pool
        if pool not in POOLS:
            raise ValueError(f'global_pool must be one of {POOLS}, but got {pool!r}')
        if num_classes and not pool:
            raise ValueError(
                "a classifier takes pooled features: global_pool='' needs num_classes=0"
            )
        self.num_classes, self.global_pool = num_classes, pool
        old = self.backbone.get_parameter(f'norm{self.backbone.out_indices[-1]}.weight')
        fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        if isinstance(fc, nn.Linear):
            nn.init.trunc_normal_(fc.weight, std=0.02)
            nn.init.zeros_(fc.bias)
        self.head.fc = fc.to(old.device, old.dtype)
        if isinstance(self._hub_mixin_config, dict):
            changed = dict(num_classes=num_classes, global_pool=pool)
            self._hub_mixin_config = self._hub_mixin_config | changed

    def forward_features(self, x: Tensor) -> Tensor:
        """Images, (B, in_chans, H, W), to the last stage's normalised map, (B, D, h, w).

        Class tokens are in it: an additional row and column of a V2M, and one more token of a Vim,
        whose map is then a sequence, (B, D, 1, L + 1).
        """
        (y,) = self.backbone.normed_maps(x)
        return y.permute(0, 3, 1, 2)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What :meth:`forward_features` returns to scores, (B, num_classes).

        Args:
            x: The map, (B, D, h, w).
            pre_logits: Leave the classifier out: pooled features, (B, D).
        """
        y, token = x.permute(0, 2, 3, 1), self.backbone.class_token
        if not self.global_pool:
            return token.strip(y).permute(0, 3, 1, 2).contiguous()
        pooled = token.read(y) if self.global_pool == 'token' else token.strip(y).mean((1, 2))
        return self.head(pooled, pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to scores, (B, num_classes).

        Without classes, features come out: (B, D), or (B, D, h, w), the patches' map, if
        ``global_pool`` is ``''``.
        """
        return self.forward_head(self.forward_features(x))


class FeatureMaps(_TimmModel, HubMixin):
    """The maps of several stages: what timm's ``features_only=True`` gives.

    It is the backbone that detectors and segmentors have: a norm behind each output, no class
    tokens, and no stages behind the last output.

    Args:
        name: A name that timm knows, such as ``'v2m_pyramid_small'``.
        out_indices: Output after which of the four stages. Defaults to all.
        in_chans: Channels of the image; weights for three are fitted to it. Defaults to 3.
        **settings: Of the backbone; see its class.

    Attributes:
        feature_info: timm's FeatureInfo: ``channels()``, ``reduction()``, ``module_name()``.

    Raises:
        ValueError: If the name or a setting is unknown or impossible.
        TypeError: If the backbone has no such setting.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        in_chans: int = 3,
        **settings: Any,
    ) -> None:
        if name in BACKBONES and 'class_token' in BACKBONES[name].cls.arguments():
            settings.setdefault('class_token', 'mean')
        super().__init__(name, in_chans, out_indices=out_indices, out_type='featmap', **settings)
        self.feature_info = FeatureInfo(_feature_info(self.backbone), self.backbone.out_indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) to one (B, D, h, w) map a stage."""
        return list(self.backbone(x))


def _feature_info(backbone: Any) -> list[dict[str, Any]]:
    """What timm wants to know of each stage."""
    return [
        dict(num_chs=width, reduction=stride, module=f'backbone.stages.{i}')
        for i, (width, stride) in enumerate(zip(backbone.widths, backbone.strides, strict=True))
    ]


def with_own_names(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Official weights under a model's names; others are returned as they are.

    Args:
        state_dict: Weights.
        model: A :class:`Classifier`, or :class:`FeatureMaps`, which take no head's.
    """
    family = recognise(state_dict)
    if family is None:
        return state_dict
    converted = ALL_CONVERTERS[family](state_dict)
    if isinstance(model, Classifier):
        return converted
    return {name: value for name, value in converted.items() if name.startswith('backbone.')}


def _rename_official(module: nn.Module, state_dict: dict, prefix: str, *_: object) -> None:
    held = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
    renamed = with_own_names(held, module)
    if renamed is not held:
        for name in held:
            del state_dict[f'{prefix}{name}']
        state_dict.update({f'{prefix}{name}': value for name, value in renamed.items()})
