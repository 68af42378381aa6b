"""The one rule by which an operator may stand for modules.

A fused operator takes parameters out of modules and does not call them. Whatever a user has done to
such a module would then have no effect, so the operator runs only where nothing has been done.
Otherwise a layer runs its plain forward, which calls every module.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.nn.modules import module as torch_module

from mmv2m.ops.precision import has_autocast

__all__ = [
    'GELU',
    'LINEAR',
    'LINEAR_WITH_BIAS',
    'Known',
    'is_watched',
    'may_stand_for',
    'unchanged',
]

PLAIN_TENSORS = (nn.Parameter, Tensor, FakeTensor, FunctionalTensor)
"""Types of parameters that have no behaviour of their own.

``torch.func.functional_call`` replaces parameters by tensors, and export and tracing replace them
by fake tensors.
"""


HALVES = (torch.bfloat16, torch.float16)


def unchanged(*kinds: type[nn.Module]) -> dict[type[nn.Module], Any]:
    """Map classes of modules to the present ``forward`` of each, which may be replaced later."""
    return {kind: kind.forward for kind in kinds}


class Known(NamedTuple):
    """A module as an operator knows it.

    Attributes:
        kinds: Classes of which the module may be; see :func:`unchanged`. Their subclasses do not
            count.
        parameters: Name of each parameter that the operator reads, and whether the module must have
            it (True), must not (False) or may (None).
        settings: Name and value of each attribute that must have this value.
        parts: Name and description of each submodule that the operator stands for too.
    """

    kinds: Mapping[type[nn.Module], Any]
    parameters: tuple[tuple[str, bool | None], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    parts: tuple[tuple[str, 'Known'], ...] = ()


LINEAR = Known(unchanged(nn.Linear), (('weight', True), ('bias', False)))
LINEAR_WITH_BIAS = Known(unchanged(nn.Linear), (('weight', True), ('bias', True)))
GELU = Known(unchanged(nn.GELU), settings=(('approximate', 'none'),))


def may_stand_for(
    layer: nn.Module, x: Tensor, parts: Iterable[tuple[nn.Module | None, Known]]
) -> bool:
    """Whether an operator may stand for some modules of a layer.

    It may if three things hold for each module. The module is exactly of a class that the operator
    knows, and the ``forward`` of that class has not been replaced. Its parameters are plain tensors
    in the dtype of ``x``, or under autocast in any dtype that autocast casts. Nothing watches or
    changes its calls: it has no hook, no parametrization, no wrapper and no ``forward`` or compiled
    forward of its own, and no hook is registered for all modules.

    The answer may change from one pass to the next, so every pass asks again. The first refusal of
    each kind is logged with its reason.

    Args:
        layer: The layer that asks.
        x: The tensor that the operator is going to read.
        parts: The modules, each with the description that it has to meet.
    """
    if (
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    ):
        _tell(layer, x, None, 'hooks are registered for all modules')
        return False
    dtype = x.dtype
    if dtype in HALVES and has_autocast(x):
        dtype = torch.float32  # most parameters have it; others are looked at one by one
    for module, known in parts:
        found = _find_obstacle(module, known, x, dtype)
        if found is not None:
            _tell(layer, x, *found)
            return False
    return True


Obstacle = tuple[nn.Module | None, str]
"""A module, or None for all of them, and the reason why the operator may not stand for it."""


def _find_obstacle(
    module: nn.Module | None, known: Known, x: Tensor, dtype: torch.dtype
) -> Obstacle | None:
    """Find what keeps an operator that reads ``x`` from standing for a module and its parts.

    Parameters in ``dtype`` need no closer look.
    """
    # One training step asks for hundreds of modules, so this only reads attributes.
    kinds, parameters, settings, parts = known
    kind: type[Any] = type(module)
    if kind not in kinds or module is None:
        return module, f'is of class {kind.__module__}.{kind.__qualname__}'
    if kinds[kind] is not kind.forward:
        return module, f'is of class {kind.__qualname__}, whose forward was replaced'
    attributes = module.__dict__  # faster than the attributes themselves
    watcher = _find_watcher(attributes)
    if watcher:
        return module, watcher
    own = attributes['_parameters']
    for name, needed in parameters:
        parameter = own.get(name)
        if type(parameter) in PLAIN_TENSORS and parameter.dtype is dtype and needed is not False:
            continue
        reason = _find_fault(name, parameter, needed, x)
        if reason:
            return module, reason
    for name, value in settings:
        if attributes.get(name) != value:
            return module, f'has {name}={attributes.get(name)!r}'
    if parts:
        children = attributes['_modules']
        for name, part in parts:
            found = _find_obstacle(children.get(name), part, x, dtype)
            if found is not None:
                return found
    return None


def is_watched(module: nn.Module) -> bool:
    """Whether something sees or changes calls of a module: a hook, or a forward of its own."""
    return bool(_find_watcher(module.__dict__))


def _find_watcher(attributes: Mapping[str, Any]) -> str:
    """Say what sees or changes calls of the module with these attributes, or return ``''``."""
    if (
        attributes['_forward_hooks']
        or attributes['_forward_pre_hooks']
        or attributes['_backward_hooks']
        or attributes['_backward_pre_hooks']
    ):
        return 'has hooks'
    if 'forward' in attributes or '_compiled_call_impl' in attributes:
        return 'has a forward of its own'
    return ''


def _find_fault(name: str, parameter: Tensor | None, needed: bool | None, x: Tensor) -> str:
    """Say what is wrong with a parameter, or return ``''``."""
    if parameter is None:
        return f'has no parameter {name!r}' if needed else ''
    if needed is False:
        return f'has a parameter {name!r}'
    if type(parameter) not in PLAIN_TENSORS:
        return f'has a {type(parameter).__name__} as {name!r}'
    dtypes = (parameter.dtype, x.dtype)
    if dtypes[0] is dtypes[1] or (torch.float64 not in dtypes and has_autocast(x)):
        return ''  # autocast casts both to one dtype, but leaves float64 as it is
    return f'has its {name!r} in another dtype than its input'


def _tell(layer: nn.Module, x: Tensor, module: nn.Module | None, reason: str) -> None:
    """Log once that a layer runs module by module, and why."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return
    if x.is_meta:  # shapes alone are never slow
        return
    key = (type(layer), type(module), reason)
    if key in _TOLD:
        return
    _TOLD.add(key)
    if module is layer:
        reason = f'it {reason}'
    elif module is not None:
        names = [name for name, child in layer.named_modules() if child is module]
        reason = f'its module {names[0]!r} {reason}' if names else f'a module {reason}'
    logging.getLogger('mmv2m').warning(
        '%s runs module by module, which is slower: %s', type(layer).__name__, reason
    )


_TOLD: set[tuple[type, type, str]] = set()
