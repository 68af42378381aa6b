"""Turns functions into operators, which are nodes of their own for autograd, compile and export.

With autograd in Python, :func:`torch.library.custom_op` takes 50 us per call, and a model makes
hundreds of calls per step. This module makes the same registrations without its generality. Where
only autograd observes a call, PyTorch's dispatcher is left out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch import autograd_function as functorch
from torch._ops import OpOverload
from torch.autograd.function import _SingleLevelFunction
from torch.func import vjp

from .precision import without_autocast
from .schemas import SCHEMAS

__all__ = [
    'Operator',
    'differentiate',
    'differentiate_again',
    'differentiate_from_inputs',
    'differentiate_from_kept',
    'flatten',
    'is_watched',
    'like_inputs',
    'like_inputs_not_kept',
    'like_x',
    'needs_gradient',
    'operator',
    'present',
    'spread',
]

NAMESPACE = 'mmv2m'
_LIBRARY = torch.library.Library(NAMESPACE, 'DEF')

PLAIN = frozenset((Tensor, torch.nn.Parameter, type(None), str, bool, int, float))
"""Types of arguments that have no behaviour of their own, unlike subclasses of tensors."""

Keep = Callable[[Any, tuple, Any], None]
"""A function of ``(context, arguments, result)`` that saves in the context what gradients need."""

Backward = Callable[..., tuple[Any, ...]]
"""A function of the context and the outputs' gradients that returns the arguments' gradients.

An argument that is a sequence has a gradient for each of its elements.
"""


class Operator:
    """A function of tensors that is a node of its own.

    Args:
        function: The function that computes it.
        overload: The operator in PyTorch's registry.

    Attributes:
        name: The operator's name, without the namespace.
        gradient: The functions for its gradient, which :func:`differentiate` sets. By default, they
            raise a NotImplementedError.
        results: If it returns a list, the number of tensors at the beginning that are results. The
            others are kept for the gradient, and are returned only by PyTorch's dispatcher.
    """

    def __init__(self, function: Callable[..., Any], overload: OpOverload) -> None:
        self.function, self.overload = function, overload
        self.name = overload._schema.name.split('::')[1]
        self.gradient: tuple[Keep, Backward] = _refusal(self.name)
        self.results: int | None = None

    def __call__(self, *args: Any) -> Any:
        """Run the operator, through PyTorch's dispatcher if something there observes the call."""
        if is_watched():
            return self.overload(*args)
        flat = flatten(args)
        if not PLAIN.issuperset(map(type, flat)) or _is_negated(flat):
            return self.overload(*args)
        if not needs_gradient(flat):
            return self.function(*args)
        records = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            with torch._C._AutoDispatchBelowAutograd():
                result = self.function(*args)
        finally:
            torch._C._set_grad_enabled(records)
        # Tensors that are kept for the gradient are no outputs here, since each output costs
        # autograd time.
        how = (self, lambda *args: result, self.gradient[0], self.results)
        return _apply_node(*how, args, *flat)

    def run_with_autograd(self, *args: Any) -> Any:
        """Run the operator for PyTorch's dispatcher, at the level of autograd."""
        flat = flatten(args)
        if not needs_gradient(flat):
            with torch._C._AutoDispatchBelowAutograd():
                return self.overload(*args)
        with functorch.enable_single_level_autograd_function():  # type: ignore[attr-defined]
            how = (self, self._run_below_autograd, self._keep_all, None)
            result = _apply_node(*how, args, *flat)
        returns_list = isinstance(self.overload._schema.returns[0].type, torch.ListType)
        return list(result) if returns_list else result

    def _run_below_autograd(self, *args: Any) -> Any:
        """Run the operator inside of a node, with gradients enabled again.

        A node disables gradients, but only for its own level. Transforms of torch.func nest levels,
        so a lower level may still need gradients.
        """
        with torch.enable_grad():
            return self.overload(*args)

    def _keep_all(self, ctx: Any, args: tuple, returned: Any) -> None:
        """Save what the gradient needs when the kept tensors are among the outputs."""
        self.gradient[0](ctx, args, returned)
        if self.results is not None:
            ctx.mark_non_differentiable(*returned[self.results :])

    def run_for_each(self, info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
        """Run one sample after the other; this is the operator's rule for :func:`torch.vmap`.

        Args:
            info: Information on the batch, such as ``batch_size``.
            in_dims: The axis of samples of each argument, and of each element of a sequence; or
                None.
            args: The arguments of all samples.

        Returns:
            The results of all samples, and their axes of samples.
        """
        samples = [
            self.overload(*(_select(arg, dim, i) for arg, dim in zip(args, in_dims, strict=True)))
            for i in range(info.batch_size)
        ]
        if isinstance(samples[0], Tensor):
            return torch.stack(samples), 0
        kind = type(samples[0])
        stacked = kind(torch.stack(one) for one in zip(*samples, strict=True))
        return stacked, kind(0 for _ in stacked)


def _refusal(name: str) -> tuple[Keep, Backward]:
    """Make the functions for an operator without a gradient, which raise when they are asked."""

    def keep(ctx: Any, args: tuple, result: Any) -> None:
        ctx.backend = args[-1]

    def refuse(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        what = f'second derivatives of {name.removesuffix("_backward")}'
        what = what if name.endswith('_backward') else f'a gradient of {name}'
        raise NotImplementedError(
            f"there are no {what} on the backend {ctx.backend!r}; backend='reference' (of a model: "
            "scan_backend='reference') has them"
        )

    return keep, refuse


def _select(arg: Any, dim: Any, i: int) -> Any:
    """Select one sample of an argument, or of each element of a sequence."""
    if isinstance(arg, list | tuple):
        return [_select(*one, i) for one in zip(arg, dim, strict=True)]
    return arg if dim is None else arg.select(dim, i)


def flatten(args: Sequence[Any]) -> list[Any]:
    """Replace sequences by their elements, since autograd does not see tensors in sequences."""
    flat: list[Any] = []
    for arg in args:
        if isinstance(arg, list | tuple):
            flat.extend(arg)
        else:
            flat.append(arg)
    return flat


def needs_gradient(flat: Sequence[Any]) -> bool:
    """Whether autograd is going to differentiate with respect to any of these arguments."""
    if torch.autograd.forward_ad._current_level >= 0:
        return True  # the node then raises, because it has no derivatives in forward mode
    if not torch.is_grad_enabled():
        return False
    return any(isinstance(arg, Tensor) and arg.requires_grad for arg in flat)


def _is_negated(flat: Sequence[Any]) -> bool:
    """Whether a tensor holds the numbers of opposite sign, which PyTorch's dispatcher resolves.

    The imaginary part of a complex conjugate is such a tensor.
    """
    return any(isinstance(arg, Tensor) and arg.is_neg() for arg in flat)


def is_watched() -> bool:
    """Whether a compiler, a tracer, a transform or a mode observes what runs now."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._is_tracing()
        or torch._C._functorch.maybe_current_level() is not None
    )


def operator(name: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Operator]:
    """Make a decorator that turns a function of tensors into an operator.

    The function has to return new tensors, and must not change its arguments.

    Args:
        name: Name of the operator, a key of :data:`.schemas.SCHEMAS`.
        fake: Function of the same arguments that returns empty tensors of the results' shapes and
            dtypes.
    """

    def define(function: Callable[..., Any]) -> Operator:
        _LIBRARY.define(f'{name}{SCHEMAS[name]}', tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, function, 'CompositeExplicitAutograd')
        torch.library.register_fake(f'{NAMESPACE}::{name}', fake, lib=_LIBRARY)
        made = Operator(function, getattr(getattr(torch.ops, NAMESPACE), name).default)
        _LIBRARY.impl(name, made.run_with_autograd, 'Autograd')
        torch.library.register_vmap(f'{NAMESPACE}::{name}', made.run_for_each, lib=_LIBRARY)
        return made

    return define


class _Node(_SingleLevelFunction):
    """An operator in autograd's graph.

    It is no :class:`torch.autograd.Function`, because the ``apply`` of that class searches the
    arguments for remains of functorch's transforms. During a transform, PyTorch's dispatcher calls
    this node for each level.
    """

    @staticmethod
    def forward(
        ctx: Any,
        operator: Operator,
        function: Callable,
        keep: Keep,
        results: int | None,
        args: tuple[Any, ...],
        *flat: Any,
    ) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            result = function(*args)
        keep(ctx, args, result)
        ctx.operator = operator
        return tuple(result[:results]) if isinstance(result, list) else result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return None, None, None, None, None, *ctx.operator.gradient[1](ctx, *grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(
            f'{ctx.operator.name} has no derivatives in forward mode, which torch.func.jvp needs; '
            'use reverse mode, as torch.func.grad does'
        )


_apply_node: Callable[..., Any] = _Node.apply  # type: ignore[attr-defined]


def differentiate(
    operator: Operator, keep: Keep, backward: Backward, results: int | None = None
) -> None:
    """Define the gradient of an operator.

    Args:
        operator: The operator.
        keep: Function that saves what ``backward`` needs.
        backward: Function of the context and the results' gradients that returns the arguments'
            gradients. A sequence has a gradient for each of its elements.
        results: If the operator returns a list, the number of tensors at the beginning that are
            results. The others have no gradients.
    """
    operator.gradient, operator.results = (keep, backward), results


def differentiate_from_inputs(operator: Operator, backward_op: Operator) -> None:
    """Define the gradient of an operator by another operator that needs only the inputs.

    Args:
        operator: The operator. Its arguments are tensors or None, then options.
        backward_op: Operator of the result's gradient and the same arguments. It returns the
            gradients of those tensors that are not None.
    """

    def backward(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
        inputs = ctx.saved_tensors
        grads = spread(backward_op(grad_y, *inputs, *ctx.options), inputs)
        return (*grads, *[None] * len(ctx.options))

    differentiate(operator, _save_inputs, backward)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = [p for p in inputs if p is None or isinstance(p, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.options = inputs[len(tensors) :]


def differentiate_from_kept(operator: Operator, backward_op: Operator) -> None:
    """Define the gradient of an operator by another operator that needs kept tensors too.

    Args:
        operator: The operator. Its arguments are tensors or None, then a sequence of them, then
            options. It returns its result first, and then the tensors that are kept.
        backward_op: Operator of the result's gradient, the kept tensors and the same arguments. It
            returns the gradients of those tensors that are not None.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        place = next(i for i, value in enumerate(inputs) if isinstance(value, list | tuple))
        kept = output[1:]
        ctx.save_for_backward(*kept, *inputs[:place], *inputs[place])
        ctx.kept, ctx.place, ctx.options = len(kept), place, inputs[place + 1 :]
        ctx.set_materialize_grads(False)  # kept tensors have no gradients

    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        kept, inputs = saved[: ctx.kept], saved[ctx.kept :]
        no_options = [None] * len(ctx.options)
        if grad_y is None:
            return (*(None for _ in inputs), *no_options)
        first, parameters = inputs[: ctx.place], inputs[ctx.place :]
        grads = backward_op(grad_y, kept, *first, parameters, *ctx.options)
        return (*spread(grads, inputs), *no_options)

    differentiate(operator, keep, backward, results=1)


def differentiate_again(backward_op: Operator, reference: Callable[..., Tensor]) -> None:
    """Define second derivatives of an operator on the reference backend.

    Args:
        backward_op: The operator's gradient: an operator of the result's gradient and the
            arguments, which returns the gradients of the tensors among the arguments.
        reference: Function of the operator's arguments without the backend that computes the
            result, and that autograd can differentiate.
    """
    _, refuse = backward_op.gradient

    def keep(ctx: Any, args: tuple[Any, ...], grads: list[Tensor]) -> None:
        _save_inputs(ctx, args, grads)
        ctx.backend = args[-1]

    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        if ctx.backend != 'reference':
            return refuse(ctx, *grads)
        grad_y, *inputs = ctx.saved_tensors
        *options, _ = ctx.options

        def y_of(*tensors: Tensor) -> Tensor:
            return reference(*spread(list(tensors), inputs), *options)

        def gradients_of(grad_y: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            return vjp(y_of, *tensors)[1](grad_y)

        with without_autocast(grad_y):
            present_ones = [p for p in inputs if p is not None]
            of_grad_y, *others = vjp(gradients_of, grad_y, *present_ones)[1](grads)
        return (of_grad_y, *spread(others, inputs), *[None] * len(ctx.options))

    differentiate(backward_op, keep, backward)


def present(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """Leave out None, since an operator's schema cannot return a list of optional tensors.

    The tensors are made contiguous, as the fakes promise to the compiler.
    """
    return [t.contiguous() for t in tensors if t is not None]


def spread(grads: list[Tensor], inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Undo :func:`present`: put None back for inputs that are None."""
    remaining = iter(grads)
    return [None if p is None else next(remaining) for p in inputs]


def like_x(x: Tensor, *args: Any) -> Tensor:
    """An empty tensor like the first argument, as a fake for operators."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def like_inputs(grad_y: Tensor, *args: Any) -> list[Tensor]:
    """Empty gradients of all tensors among an operator's arguments, also those in sequences."""
    return [
        torch.empty(p.shape, dtype=p.dtype, device=p.device)
        for p in flatten(args)
        if isinstance(p, Tensor)
    ]


def like_inputs_not_kept(grad_y: Tensor, kept: Sequence[Tensor], *args: Any) -> list[Tensor]:
    """Empty gradients, as the fake of ``backward_op`` in :func:`differentiate_from_kept`."""
    return like_inputs(grad_y, *args)
