"""Learning rates that fall with the distance from the head, for models of every task library."""

from torch import nn

from mmv2m.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .grouped import GroupedOptimWrapperConstructor
from .paramwise import SETTINGS

__all__ = ['LayerDecayOptimWrapperConstructor']


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(GroupedOptimWrapperConstructor):
    """:class:`GroupedOptimWrapperConstructor` with layer-wise decay of the learning rate.

    A parameter in layer ``k`` of ``n`` learns at ``layer_decay_rate ** (n - 1 - k)`` times the rate
    that it would have otherwise. The backbone's method ``get_layer_depth(name, prefix)``, which
    mmpretrain's backbones also have, tells the layer. Necks and heads are in the last layer,
    ``n - 1``. mmpretrain's own constructor needs such a method of the whole model, which detectors
    and segmentors lack. Those of mmdet and mmseg know their own backbones only.

    ``paramwise_cfg`` takes ``layer_decay_rate``, above 0 and up to 1, and the settings of
    mmengine's default constructor.

    Raises:
        ValueError: If ``layer_decay_rate`` is missing or impossible.
        TypeError: If the model's backbone cannot tell its layers apart.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='LayerDecayOptimWrapperConstructor',
        ...     optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        ...     paramwise_cfg=dict(
        ...         layer_decay_rate=0.8,
        ...         flat_decay_mult=0.0,
        ...         custom_keys={'.A_log': dict(decay_mult=0.0)},
        ...     ),
        ... )
    """

    settings = (*SETTINGS, 'layer_decay_rate')

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(
                'paramwise_cfg needs layer_decay_rate, a number above 0 and up to 1, but it is '
                f'{rate!r}'
            )
        if self.base_lr is None:
            raise ValueError('layer-wise decay scales lr, which the optimizer has to name')

    def _adjust(self, params: list[dict], model: nn.Module) -> None:
        backbone = getattr(model, 'backbone', None)
        get_layer_depth = getattr(backbone, 'get_layer_depth', None)
        if get_layer_depth is None:
            raise TypeError(
                'layer-wise decay needs a model whose backbone has get_layer_depth(name, prefix); '
                f"{type(model).__name__}'s is a {type(backbone).__name__}"
            )
        rate = self.paramwise_cfg['layer_decay_rate']
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for group in params:
            (parameter,) = group['params']
            layer, layers = get_layer_depth(names[id(parameter)], 'backbone.')
            group['lr'] = group.get('lr', self.base_lr) * rate ** (layers - 1 - layer)
