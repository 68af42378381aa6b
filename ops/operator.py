"""How a function becomes an operator: a node of its own for autograd, compile and export.

What :func:`torch.library.custom_op` offers takes 50 us a call with autograd in Python; a model has
hundreds of calls a step. Here are the same registrations without its generality.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

__all__ = ['differentiate', 'operator']

NAMESPACE = 'mmv2m'
_LIBRARY = torch.library.Library(NAMESPACE, 'DEF')

Backward = Callable[..., tuple[Any, ...]]
"""Given the context and the outputs' gradients, returns one for every argument."""


def operator(name: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], OpOverload]:
    """Make a function of tensors an operator.

    Args:
        name: Of the operator.
        fake: Returns tensors of the result's shapes and dtypes, from the same arguments.

    Returns:
        A decorator of functions that return new tensors and change none; their annotations tell
        the operator's schema.
    """

    def define(function: Callable[..., Any]) -> OpOverload:
        schema = torch.library.infer_schema(function, mutates_args=())
        _LIBRARY.define(f'{name}{schema}', tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, function, 'CompositeExplicitAutograd')
        torch.library.register_fake(f'{NAMESPACE}::{name}', fake, lib=_LIBRARY)
        return getattr(getattr(torch.ops, NAMESPACE), name).default

    return define


class _Node(torch.autograd.Function):
    """An operator in autograd's graph."""

    @staticmethod
    def forward(ctx: Any, op: OpOverload, keep: Callable, backward: Backward, *args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            result = op(*args)
        keep(ctx, args, result)
        ctx.differentiate = backward
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return None, None, None, *ctx.differentiate(ctx, *grads)


def differentiate(
    op: OpOverload, keep: Callable[[Any, tuple, Any], None], backward: Backward
) -> None:
    """Give an operator its gradient.

    Args:
        op: The operator.
        keep: ``(context, arguments, result)``: saves in the context what ``backward`` needs.
        backward: ``(context, *gradients of the results)``, to the arguments' gradients.
    """

    def run(*args: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args):
            return _Node.apply(op, keep, backward, *args)
        with torch._C._AutoDispatchBelowAutograd():
            return op(*args)

    _LIBRARY.impl(op._schema.name.split('::')[1], run, 'Autograd')
