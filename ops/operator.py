"""How a function becomes an operator: a node of its own for autograd, compile and export.

What :func:`torch.library.custom_op` offers takes 50 us a call with autograd in Python; a model has
hundreds of calls a step. Here are the same registrations without its generality, and where nothing
but autograd is interested in a call, PyTorch's dispatcher is left out.
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
        name: Its name.
        gradient: How to differentiate it, from :func:`differentiate`; if not at all, what says so.
        results: How many of the tensors that it returns are results, if it returns a list. Others
            are there for the gradient, and returned only where PyTorch's dispatcher runs it.
    """

    def __init__(self, function: Callable[..., Any], overload: OpOverload) -> None:
        self.function, self.overload = function, overload
        self.name = overload._schema.name.split('::')[1]
        self.gradient: tuple[Keep, Backward] = _refusal(self.name)
        self.results: int | None = None

    def __call__(self, *args: Any) -> Any:
        """Run it, through PyTorch's dispatcher if anything there may be interested."""
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
        # What is kept for the gradient is no output here, where nobody asks: autograd would make a
        # node's output of each.
        how = (self, lambda *args: result, self.gradient[0], self.results)
        return _apply_node(*how, args, *flat)

    def run_with_autograd(self, *args: Any) -> Any:
        """What PyTorch's dispatcher runs where autograd may be interested."""
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
        """Run it where a node runs it, which turns gradients off.

        That is meant for the node's own level; transforms of torch.func have one below the other.
        """
        with torch.enable_grad():
            return self.overload(*args)

    def _keep_all(self, ctx: Any, args: tuple, returned: Any) -> None:
        """Keep what the gradient needs, where what is kept is among the outputs."""
        self.gradient[0](ctx, args, returned)
        if self.results is not None:
            ctx.mark_non_differentiable(*returned[self.results :])

    def run_for_each(self, info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
        """The rule of :func:`torch.vmap`: one sample after the other.

        Args:
            info: Of the batch.
            in_dims: For each argument, and each element of a sequence, its axis of samples or None.
            args: The arguments of all samples.

        Returns:
            Results of all samples, and their axes.
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
    """The gradient of an operator that has none, as most operators that compute gradients."""

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
    """One sample of an argument, or of each element of a sequence."""
    if isinstance(arg, list | tuple):
        return [_select(*one, i) for one in zip(arg, dim, strict=True)]
    return arg if dim is None else arg.select(dim, i)


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
    if torch.autograd.forward_ad._current_level >= 0:
        return True  # which has the node say that it has no derivatives of this kind
    if not torch.is_grad_enabled():
        return False
    return any(isinstance(arg, Tensor) and arg.requires_grad for arg in flat)


def _is_negated(flat: Sequence[Any]) -> bool:
    """Whether a tensor holds the numbers of opposite sign, which PyTorch's dispatcher resolves.

    The imaginary part of a complex conjugate is such a tensor.
    """
    return any(isinstance(arg, Tensor) and arg.is_neg() for arg in flat)


def is_watched() -> bool:
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
        name: Of the operator, a key of :data:`.schemas.SCHEMAS`.
        fake: Returns tensors of the result's shapes and dtypes, from the same arguments.

    Returns:
        A decorator of functions that return new tensors and change none.
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

    It is no :class:`torch.autograd.Function`, whose ``apply`` looks through the arguments for what
    functorch may have left of its transforms. Where one is under way, PyTorch's dispatcher calls
    this for each level by itself.
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
            f'{ctx.operator.name} has no derivatives in forward mode, as torch.func.jvp takes '
            'them; take them in reverse mode, as torch.func.grad does'
        )


_apply_node: Callable[..., Any] = _Node.apply  # type: ignore[attr-defined]


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
    operator.gradient, operator.results = (keep, backward), results


def differentiate_from_inputs(operator: Operator, backward_op: Operator) -> None:
    """Give an operator its gradient, which keeps nothing but the inputs.

    Args:
        operator: Takes tensors or None, then options.
        backward_op: ``(gradient of the result, *the same)``, to the gradients of those tensors that
            are not None.
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
    """Give an operator its gradient that returns first its result, then what is kept for that.

    Args:
        operator: Takes tensors or None, then a sequence of such, then options.
        backward_op: ``(gradient of the result, what is kept, *the same)``, to the gradients of
            those tensors that are not None.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        place = next(i for i, value in enumerate(inputs) if isinstance(value, list | tuple))
        kept = output[1:]
        ctx.save_for_backward(*kept, *inputs[:place], *inputs[place])
        ctx.kept, ctx.place, ctx.options = len(kept), place, inputs[place + 1 :]
        ctx.set_materialize_grads(False)  # there are none of what is kept

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
    """Give a gradient to the operator that computes another one's, on the reference backend.

    Args:
        backward_op: ``(gradient of y, *arguments)``, to the gradients of the tensors among these.
        reference: ``y`` of the same arguments but the backend, as autograd differentiates it.
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
    """The gradients that exist; an operator's schema has no list of optional tensors to return.

    Contiguous, as the fakes promise to the compiler.
    """
    return [t.contiguous() for t in tensors if t is not None]


def spread(grads: list[Tensor], inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Undo :func:`present`: None again for inputs that were None."""
    remaining = iter(grads)
    return [None if p is None else next(remaining) for p in inputs]


def like_x(x: Tensor, *args: Any) -> Tensor:
    """The fake of an operator whose result is like its first argument."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def like_inputs(grad_y: Tensor, *args: Any) -> list[Tensor]:
    """Gradients of the tensors among an operator's arguments, and in sequences there, empty."""
    return [
        torch.empty(p.shape, dtype=p.dtype, device=p.device)
        for p in flatten(args)
        if isinstance(p, Tensor)
    ]


def like_inputs_not_kept(grad_y: Tensor, kept: Sequence[Tensor], *args: Any) -> list[Tensor]:
    """The fake of the second operator of :func:`differentiate_from_kept`."""
    return like_inputs(grad_y, *args)
