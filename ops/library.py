"""Operators as torch.library sees them: one node each for autograd, compile and export.

``mmv2m::directional_scan``, ``mmv2m::directional_conv`` and, for backends that fuse them,
``mmv2m::directional_ssm``, ``mmv2m::gated_linear``, ``mmv2m::channel_norm`` and
``mmv2m::add_norm``, with their backward operators; and what ``library_*.py`` share. Callers use the
public functions, which check arguments and choose the backend first.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from .backends import BACKENDS
from .operator import Backward, Operator, differentiate, flatten, operator
from .precision import without_autocast
from .products import input_gradient, project, weight_gradient
from .reference import directional_conv_reference, directional_scan_reference, state_dtype

__all__ = [
    'add_norm_op',
    'channel_norm_op',
    'conv_op',
    'differentiate_from_kept',
    'gated_linear_op',
    'like_inputs_not_kept',
    'present',
    'projected_like',
    'scan_op',
    'spread',
    'ssm_op',
]


def present(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients that exist; an operator's schema has no list of optional tensors to return.

    Contiguous, as the fakes promise to the compiler.
    """
    return [t.contiguous() for t in tensors if t is not None]


def spread(grads: list[Tensor], inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Undo :func:`present`: None again for inputs that were None."""
    remaining = iter(grads)
    return [None if p is None else next(remaining) for p in inputs]


def _projected(x: Tensor, z: Tensor, weight: Tensor, backend: str) -> Tensor:
    return projected_like(x, weight)


def projected_like(x: Tensor, weight: Tensor) -> Tensor:
    """What ``linear`` makes of something like ``x`` with a weight of (D, ...), empty."""
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _one_map_a_direction(x: Tensor, *args: Any) -> Tensor:
    directions, _, reduction, *_ = args[8:]
    shape = x.shape[-4:] if reduction == 'sum' else (directions.count(',') + 1, *x.shape[-4:])
    return torch.empty(shape, dtype=x.dtype, device=x.device)


def _like_x(x: Tensor, *args: Any) -> Tensor:
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


def _like_sum(branch: Tensor, residual: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    normed, total = like_inputs(branch, branch, residual)
    return normed, total.to(state_dtype(branch))


def _like_summands(
    grad_normed: Tensor, grad_total: Tensor, total: Tensor, *others: Any
) -> list[Tensor]:
    weight, bias, _, _, begins, _ = others
    return like_inputs(total, grad_normed, grad_normed if begins else total, weight, bias)


@operator('directional_scan', _like_x)
def scan_op(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    direction: str,
    backend: str,
) -> Tensor:
    """:func:`mmv2m.ops.directional_scan` with its backend chosen."""
    return (
        BACKENDS[backend]
        .scan_forward(x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction)
        .contiguous()
    )


@operator('directional_scan_backward', like_inputs)
def _scan_backward_op(
    grad_y: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    direction: str,
    backend: str,
) -> list[Tensor]:
    return present(
        BACKENDS[backend].scan_backward(
            grad_y, x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction
        )
    )


@operator('directional_conv', _like_x)
def conv_op(x: Tensor, weight: Tensor, bias: Tensor | None, direction: str, backend: str) -> Tensor:
    """:func:`mmv2m.ops.directional_conv` with its backend chosen."""
    return BACKENDS[backend].conv_forward(x, weight, bias, direction).contiguous()


@operator('directional_conv_backward', like_inputs)
def _conv_backward_op(
    grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, direction: str, backend: str
) -> list[Tensor]:
    return present(BACKENDS[backend].conv_backward(grad_y, x, weight, bias, direction))


@operator('directional_ssm', _one_map_a_direction)
def ssm_op(
    x: Tensor,
    gate: Tensor | None,
    conv_weight: Tensor | None,
    conv_bias: Tensor | None,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    directions: str,
    projects: str,
    reduction: str,
    log_A: bool,
    backend: str,
) -> Tensor:
    """:func:`mmv2m.ops.directional_ssm` on a backend that fuses it; directions with commas."""
    forward = BACKENDS[backend].ssm_forward
    assert forward is not None
    tensors = (x, gate, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D)
    return forward(tensors, directions.split(','), projects, reduction, log_A)[0]


@operator('directional_ssm_backward', like_inputs)
def _ssm_backward_op(
    grad_y: Tensor,
    x: Tensor,
    gate: Tensor | None,
    conv_weight: Tensor | None,
    conv_bias: Tensor | None,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    directions: str,
    projects: str,
    reduction: str,
    log_A: bool,
    backend: str,
) -> list[Tensor]:
    backward = BACKENDS[backend].ssm_backward
    assert backward is not None
    tensors = (x, gate, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D)
    return present(backward(grad_y, tensors, directions.split(','), projects, reduction, log_A))


@operator('gated_linear', _projected)
def gated_linear_op(x: Tensor, z: Tensor, weight: Tensor, backend: str) -> Tensor:
    """:func:`mmv2m.ops.gated_linear` on a backend that fuses the gate."""
    gate = BACKENDS[backend].gate_forward
    assert gate is not None
    return project(gate(x, z), weight)


@operator('gated_linear_backward', like_inputs)
def _gated_linear_backward_op(
    grad_y: Tensor, x: Tensor, z: Tensor, weight: Tensor, backend: str
) -> list[Tensor]:
    gate_backward = BACKENDS[backend].gate_backward
    assert gate_backward is not None
    *of_maps, gated = gate_backward(input_gradient(grad_y, weight), x, z, None, True)
    assert gated is not None
    return present((*of_maps, weight_gradient(grad_y, gated, weight.dtype)))


@operator('channel_norm', _like_x)
def channel_norm_op(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    eps: float,
    backend: str,
) -> Tensor:
    """:func:`mmv2m.ops.channel_norm` on a backend that has it."""
    forward = BACKENDS[backend].norm_forward
    assert forward is not None
    return forward(x, weight, bias, offset, eps)


@operator('channel_norm_backward', like_inputs)
def _channel_norm_backward_op(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    eps: float,
    backend: str,
) -> list[Tensor]:
    backward = BACKENDS[backend].norm_backward
    assert backward is not None
    return present(backward(grad_y, x, weight, bias, offset, eps))


@operator('add_norm', _like_sum)
def add_norm_op(
    branch: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    eps: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """:func:`mmv2m.ops.add_norm` on a backend that fuses it."""
    forward = BACKENDS[backend].add_norm_forward
    assert forward is not None
    return forward(branch, residual, weight, bias, factor, eps)


@operator('add_norm_backward', _like_summands)
def _add_norm_backward_op(
    grad_normed: Tensor,
    grad_total: Tensor,
    total: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    eps: float,
    begins: bool,
    backend: str,
) -> list[Tensor]:
    backward = BACKENDS[backend].add_norm_backward
    assert backward is not None
    return present(backward(grad_normed, grad_total, total, weight, bias, factor, eps, begins))


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = [p for p in inputs if p is None or isinstance(p, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.options = inputs[len(tensors) :]


def _from_inputs(backward_op: Any) -> Backward:
    """A gradient that takes the operator's inputs and is an operator itself."""

    def backward(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
        inputs = ctx.saved_tensors
        grads = spread(backward_op(grad_y, *inputs, *ctx.options), inputs)
        return (*grads, *[None] * len(ctx.options))

    return backward


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


def _differentiate_again(backward_op: Operator, reference: Callable[..., Tensor]) -> None:
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


differentiate(scan_op, _save_inputs, _from_inputs(_scan_backward_op))
_differentiate_again(_scan_backward_op, directional_scan_reference)
differentiate(conv_op, _save_inputs, _from_inputs(_conv_backward_op))
_differentiate_again(_conv_backward_op, directional_conv_reference)
differentiate(ssm_op, _save_inputs, _from_inputs(_ssm_backward_op))
differentiate(gated_linear_op, _save_inputs, _from_inputs(_gated_linear_backward_op))
differentiate(channel_norm_op, _save_inputs, _from_inputs(_channel_norm_backward_op))


def _save_total(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    branch, residual, weight, bias, factor, eps, backend = inputs
    ctx.save_for_backward(output[1], weight, bias, factor)
    ctx.options = eps, residual.dtype == branch.dtype, backend


def _add_norm_backward(ctx: Any, grad_normed: Tensor, grad_total: Tensor) -> tuple[Any, ...]:
    total, weight, bias, factor = ctx.saved_tensors
    given = (grad_normed, grad_total, total, weight, bias, factor)
    grads = _add_norm_backward_op(*given, *ctx.options)
    return (*spread(grads, (total, total, weight, bias)), None, None, None)


differentiate(add_norm_op, _save_total, _add_norm_backward)
