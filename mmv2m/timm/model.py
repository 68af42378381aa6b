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
    """The backbone, and the methods that timm's optimizers and tools call.

    Args:
        name: A key of :data:`~.names.BACKBONES`.
        in_chans: Number of channels of the image.
        **settings: Settings of the backbone. ``img_size`` is always allowed; it is dropped if the
            backbone has no such setting.
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
        """Names of the parameters that should not decay, besides one-dimensional parameters."""
        kept = ('.A_log', '.pos_embed', '.class_token')
        return {n for n, _ in self.named_parameters() if any(part in n for part in kept)}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Regular expressions that group the parameters for timm's layer-wise decay.

        The groups are the stem, each block, and the output norms.

        Args:
            coarse: Make one group for each stage instead of one for each block.
        """
        place = r'^backbone\.stages\.(\d+)' if coarse else r'^backbone\.stages\.(\d+)\.(\d+)'
        return dict(
            stem=r'^backbone\.(?!stages|norm)',
            blocks=[(place, None), (r'^backbone\.norm', (99999,))],
        )


class _Head(nn.Module):
    """Dropout and a linear layer, which has the name that it has in mmpretrain."""

    def __init__(self, drop_rate: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Identity()

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.drop(x)
        return x if pre_logits else self.fc(x)


class Classifier(_TimmModel, HubMixin):
    """A backbone and a linear classifier, with timm's methods and mmpretrain's names of weights.

    The weights of mmpretrain's ``ImageClassifier`` with a ``LinearClsHead`` therefore load without
    conversion. The authors' own weights are renamed when they are loaded.

    Args:
        name: A name that timm knows, such as ``'v2m_tiny'``.
        num_classes: Number of classes. With 0 there is no classifier, and the model returns
            features. Defaults to 1000.
        in_chans: Number of channels of the image. timm fits pretrained weights for three channels
            to it. Defaults to 3.
        global_pool: ``'token'`` reads the class token, or the mean if the backbone has none;
            ``'avg'`` takes the mean over the patches; ``''`` does not pool. Defaults to
            ``'token'``.
        drop_rate: Probability of dropout in front of the classifier. Defaults to 0.
        **settings: Settings of the backbone, such as ``img_size``, ``drop_path_rate``,
            ``patch_size`` or ``corners``, or an ``arch`` of other sizes; see its class.

    Attributes:
        num_features: Width of the features that the classifier takes.
        feature_info: One dict for each stage: its width (``num_chs``), its stride in pixels
            (``reduction``), and the name of its ``module``.

    Raises:
        ValueError: If the name or a setting is unknown or impossible.
        TypeError: If the backbone has no such setting, or ``out_type`` is given.
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
        """Return the linear layer, or an identity if there are no classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new classifier in the place of the old one.

        Args:
            num_classes: Number of classes; with 0 there is no classifier.
            global_pool: The new pooling, as for the class. None keeps the present one.

        Raises:
            ValueError: If the pooling is unknown, or is ``''`` although there are classes.
        """
        pool: str = self.global_pool if global_pool is None else global_pool
        if pool not in POOLS:
            raise ValueError(f'global_pool must be one of {POOLS}, but got {pool!r}')
        if not isinstance(num_classes, int) or num_classes < 0:
            raise ValueError(f'num_classes must be 0 or more, but got {num_classes!r}')
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
        """Turn images (B, in_chans, H, W) into the last stage's normalised map (B, D, h, w).

        The map includes the class tokens. A V2M's map has an additional row and column for them. A
        Vim's map is then a sequence with one more token, (B, D, 1, L + 1).
        """
        (y,) = self.backbone.normed_maps(x)
        return y.permute(0, 3, 1, 2)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Turn a map of :meth:`forward_features` into scores (B, num_classes).

        Args:
            x: The map, (B, D, h, w).
            pre_logits: Leave the classifier out, and return pooled features (B, D).
        """
        y, token = x.permute(0, 2, 3, 1), self.backbone.class_token
        if not self.global_pool:
            return token.strip(y).permute(0, 3, 1, 2).contiguous()
        pooled = token.read(y) if self.global_pool == 'token' else token.strip(y).mean((1, 2))
        return self.head(pooled, pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (B, in_chans, H, W) into scores (B, num_classes).

        A model without classes returns features instead. They are pooled, (B, D), or the map of the
        patches, (B, D, h, w), if ``global_pool`` is ``''``.
        """
        return self.forward_head(self.forward_features(x))


class FeatureMaps(_TimmModel, HubMixin):
    """A model that returns the maps of several stages; timm builds it for ``features_only=True``.

    It is the backbone that detectors and segmentors use. Each output has its own norm, there are no
    class tokens, and the stages behind the last output are left out.

    Args:
        name: A name that timm knows, such as ``'v2m_pyramid_small'``.
        out_indices: Indices of the stages whose maps are returned. Defaults to all four.
        in_chans: Number of channels of the image. timm fits pretrained weights for three channels
            to it. Defaults to 3.
        **settings: Settings of the backbone; see its class.

    Attributes:
        feature_info: timm's FeatureInfo, with the methods ``channels()``, ``reduction()`` and
            ``module_name()``.

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
        """Turn images (B, in_chans, H, W) into one map (B, D, h, w) for each chosen stage."""
        return list(self.backbone(x))


def _feature_info(backbone: Any) -> list[dict[str, Any]]:
    """Return the width, the stride and the module's name of each stage, as timm expects them."""
    return [
        dict(num_chs=width, reduction=stride, module=f'backbone.stages.{i}')
        for i, (width, stride) in enumerate(zip(backbone.widths, backbone.strides, strict=True))
    ]


def with_own_names(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give the authors' own weights the names that they have in a model.

    Args:
        state_dict: Weights by name.
        model: A :class:`Classifier`, or a :class:`FeatureMaps`. The head's weights are left out for
            any model that is not a :class:`Classifier`.

    Returns:
        The renamed weights, or ``state_dict`` itself if it is not of a known family.
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
