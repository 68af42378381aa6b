"""How a function becomes an operator: a node of its own for autograd, compile and export.

What :func:`torch.library.custom_op` offers takes 50 us a call with autograd in Python; a model has
hundreds of calls a step. Here are the same registrations without its generality, and where nothing
but autograd is interested in a call, PyTorch's dispatcher is left out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

__all__ = ['Operator', 'differentiate', 'flatten', 'needs_gradient', 'operator']

NAMESPACE = 'mmv2m'
_LIBRARY = torch.library.Library(NAMESPACE, 'DEF')

PLAIN = frozenset((Tensor, torch.nn.Parameter, type(None), str, bool, int, float))
"""Types of arguments, of tensors those that are nothing but tensors."""

Keep = Callable[[Any, tuple, Any], None]
"""``(context, arguments, result)``: saves in the context what the gradient needs."""

Backward = Callable[..., tuple[Any, ...]]
"""Given the context and the outputs' gradients, returns one for every argument, and for every
element of one that is a sequence."""


class Operator:
    """A function of tensors that is a node of its own.

    Args:
        function: What it computes.
        overload: Itself, as PyTorch knows it.

    Attributes:
        gradient: How to differentiate it, from :func:`differentiate`; None if not at all.
        results: How many of the tensors that it returns are results, if it returns a list. Others
            are there for the gradient, and returned only where PyTorch's dispatcher runs it.
    """

    def __init__(self, function: Callable[..., Any], overload: OpOverload) -> None:
        self.function, self.overload = function, overload
        self.gradient: tuple[Keep, Backward] | None = None
        self.results: int | None = None

    def __call__(self, *args: Any) -> Any:
        """Run it, through PyTorch's dispatcher if anything there may be interested."""
        if _is_watched():
            return self.overload(*args)
        flat = flatten(args)
        if not PLAIN.issuperset(map(type, flat)):
            return self.overload(*args)
        if not needs_gradient(flat):
            return self.function(*args)
        if self.gradient is None:
            return self.overload(*args)  # which has PyTorch say so when it comes to the gradient
        # What is kept for the gradient is no output here, where nobody asks: autograd would make a
        # node's output of each.
        return _apply_node(self.function, *self.gradient, self.results, args, *flat)


def flatten(args: Sequence[Any]) -> list[Any]:
    """With the elements of sequences in their place; autograd sees no tensors in sequences."""
    flat: list[Any] = []
    for arg in args:
        if isinstance(arg, list | tuple):
            flat.extend(arg)
        else:
            flat.append(arg)
    return flat


def needs_gradient(flat: Sequence[Any]) -> bool:
    """Whether autograd is going to differentiate by any tensor of these arguments."""
    if not torch.is_grad_enabled():
        return False
    return any(isinstance(arg, Tensor) and arg.requires_grad for arg in flat)


def _is_watched() -> bool:
    """Whether something compiles, traces, transforms or counts what runs now."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._is_tracing()
        or torch._C._functorch.maybe_current_level() is not None
    )


def operator(name: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Operator]:
    """Make a function of tensors an operator.

    Args:
        name: Of the operator.
        fake: Returns tensors of the result's shapes and dtypes, from the same arguments.

    Returns:
        A decorator of functions that return new tensors and change none; their annotations tell
        the operator's schema.
    """

    def define(function: Callable[..., Any]) -> Operator:
        schema = torch.library.infer_schema(function, mutates_args=())
        _LIBRARY.define(f'{name}{schema}', tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, function, 'CompositeExplicitAutograd')
        torch.library.register_fake(f'{NAMESPACE}::{name}', fake, lib=_LIBRARY)
        return Operator(function, getattr(getattr(torch.ops, NAMESPACE), name).default)

    return define


class _Node(torch.autograd.Function):
    """An operator in autograd's graph."""

    @staticmethod
    def forward(
        ctx: Any,
        function: Callable,
        keep: Keep,
        backward: Backward,
        results: int | None,
        args: tuple[Any, ...],
        *flat: Any,
    ) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            result = function(*args)
        keep(ctx, args, result)
        ctx.differentiate = backward
        return tuple(result[:results]) if isinstance(result, list) else result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return None, None, None, None, None, *ctx.differentiate(ctx, *grads)


# What Function.apply calls in the end: without looking through the arguments for what functorch may
# have left of its transforms, of which none is under way.
_apply_node: Callable[..., Any] = super(torch.autograd.Function, _Node).apply


def differentiate(
    operator: Operator, keep: Keep, backward: Backward, results: int | None = None
) -> None:
    """Give an operator its gradient.

    Args:
        operator: The operator.
        keep: Saves what ``backward`` needs.
        backward: ``(context, *gradients of the results)``, to the arguments' gradients; those of
            sequences' elements in their place.
        results: How many of the returned tensors are results; there are no gradients of the others.
    """
    overload = operator.overload
    operator.gradient, operator.results = (keep, backward), results

    def keep_all(ctx: Any, args: tuple, returned: Any) -> None:
        keep(ctx, args, returned)
        if results is not None:
            ctx.mark_non_differentiable(*returned[results:])

    returns_list = isinstance(overload._schema.returns[0].type, torch.ListType)

    def run(*args: Any) -> Any:
        flat = flatten(args)
        if needs_gradient(flat):
            result = _Node.apply(overload, keep_all, backward, None, args, *flat)
            return list(result) if returns_list else result
        with torch._C._AutoDispatchBelowAutograd():
            return overload(*args)

    _LIBRARY.impl(overload._schema.name.split('::')[1], run, 'Autograd')
