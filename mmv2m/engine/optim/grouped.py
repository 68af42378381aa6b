"""An optimizer with one parameter group for each different setting."""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from mmengine.logging import MMLogger, print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from mmv2m.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .fused import use_fused
from .loading import check_groups_on_load
from .paramwise import APPLIED, SETTINGS, check_paramwise

__all__ = ['GroupedOptimWrapperConstructor']

UNKNOWN = object()
"""Stands for a default that neither the config nor the optimizer's signature names."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor, with one parameter group for each different setting.

    With a ``paramwise_cfg``, mmengine makes a group of every parameter, and an optimizer walks over
    groups in Python. Here parameters of equal settings share a group, in the model's order. Each
    group names its parameters under ``param_names``. Every parameter gets the learning rate, the
    weight decay and all other settings that mmengine's constructor gives it. The log has one line
    for each group, where mmengine logs one for each setting of each parameter.

    On a GPU, Adam, AdamW and SGD are built with ``fused=True``, unless the config names ``fused``
    or ``foreach``, or sets ``differentiable``.

    Checkpoints with one group for each parameter resume through
    :class:`mmv2m.engine.hooks.ResumeGroupsHook`, which ``tools/train.py`` registers.

    Args:
        optim_wrapper_cfg: Config of the wrapper and its optimizer, as for mmengine's constructor.
        paramwise_cfg: Settings by parameter, as for mmengine's constructor. Defaults to None.

    Raises:
        ValueError: If ``paramwise_cfg`` has a setting that there is not, or the model has a
            parameter under two names and ``paramwise_cfg`` lacks ``bypass_duplicate=True``.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='mmv2m.GroupedOptimWrapperConstructor',
        ...     optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        ...     paramwise_cfg=dict(flat_decay_mult=0.0),
        ... )
    """

    optimizer_cfg: dict[str, Any]
    settings: ClassVar[tuple[str, ...]] = SETTINGS

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        check_paramwise(self.paramwise_cfg, type(self), self._optimizer_class())

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of a model.

        Args:
            model: The model, on the device where it is trained.
        """
        model = getattr(model, 'module', model)
        given = self.optimizer_cfg
        self.optimizer_cfg = use_fused(given, self._optimizer_class(), model.parameters())
        try:
            wrapper = super().__call__(model)
        finally:
            self.optimizer_cfg = given
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for group in wrapper.optimizer.param_groups:
            group['param_names'] = [names[id(parameter)] for parameter in group['params']]
        check_groups_on_load(wrapper.optimizer)
        _log_groups(wrapper.optimizer.param_groups)
        for key in self.paramwise_cfg.get('custom_keys', {}):
            if not any(key in name for name in names.values()):
                print_log(f'custom_keys: no parameter has {key!r} in its name', logger='current')
        return wrapper

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Add the parameters of a module to the groups, as mmengine's constructor does."""
        if prefix:
            super().add_params(params, module, prefix, **kwargs)
            return
        with _without_lines('paramwise_options -- '):
            super().add_params(params, module, **kwargs)
        _refuse_duplicates(params, module)
        self._adjust(params, module)
        params[:] = _merge(params, self._defaults())

    def _adjust(self, params: list[dict], model: nn.Module) -> None:
        """Change groups of one parameter each before those of equal settings are merged."""

    def _optimizer_class(self) -> Any:
        kind = self.optimizer_cfg['type']
        if isinstance(kind, str):
            # The same search as mmengine's.
            with OPTIMIZERS.switch_scope_and_registry(None) as registry:
                kind = registry.get(kind)
        return kind

    def _defaults(self) -> dict[str, Any]:
        """The settings of a group that names none."""
        signature = inspect.signature(self._optimizer_class()).parameters
        named = {name: parameter.default for name, parameter in signature.items()}
        return {**named, **self.optimizer_cfg}


def _merge(groups: list[dict], defaults: dict[str, Any]) -> list[dict]:
    """Put groups of equal settings into the first of them.

    Args:
        groups: Groups in the model's order.
        defaults: The settings of a group that names none. Keys of :data:`APPLIED` that are not
            among them mean nothing to the optimizer, and are dropped.
    """
    keys = {key for group in groups for key in group} - {'params'}
    keys -= {key for key in APPLIED if key not in defaults}
    merged: list[tuple[dict, dict]] = []
    for group in groups:
        settings = {key: group.get(key, defaults.get(key, UNKNOWN)) for key in keys}
        for known, target in merged:
            if known == settings:
                target['params'].extend(group['params'])
                break
        else:
            own = {key: group[key] for key in group if key in keys}
            merged.append((settings, dict(own, params=list(group['params']))))
    return [group for _, group in merged]


def _refuse_duplicates(groups: list[dict], model: nn.Module) -> None:
    # Within one group PyTorch would only warn of them, and would train them twice in a step.
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen: set[int] = set()
    for group in groups:
        for parameter in group['params']:
            if id(parameter) in seen:
                raise ValueError(
                    f'{names[id(parameter)]} is in the model under more than one name: set '
                    'paramwise_cfg.bypass_duplicate=True to train it once'
                )
            seen.add(id(parameter))


@contextmanager
def _without_lines(start: str) -> Iterator[None]:
    """Keep lines with a certain start out of mmengine's current log."""

    def passes(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(start)

    logger = MMLogger.get_current_instance()
    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


def _log_groups(groups: list[dict]) -> None:
    keys = {key for group in groups for key in group} - {'params', 'param_names'}
    varied = {key for key in keys for group in groups if group.get(key) != groups[0].get(key)}
    shown = {'lr', 'weight_decay', *varied} | ({'fused'} if groups[0].get('fused') else set())
    for i, group in enumerate(groups, 1):
        settings = ', '.join(f'{key}={group[key]}' for key in sorted(shown & group.keys()))
        values = sum(parameter.numel() for parameter in group['params'])
        print_log(
            f'optimizer group {i} of {len(groups)}: {settings}; {len(group["params"])} parameters '
            f'with {values:,} values',
            logger='current',
        )
