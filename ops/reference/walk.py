"""The scan's recurrence and its backward pass in plain PyTorch, for the ``'reference'`` backend.

In plain PyTorch, the time of a scan is the time of its passes over tensors with all states. This
file keeps these passes few and fast. Such a tensor is (steps, S, N, E), in the order of the walk,
for S sequences (batch times lanes). One operation computes the decay of all steps. Only the two
recurrences go step by step, in place. Channels come last, so that a sum over states adds rows. Work
is divided into pieces of bounded size: the forward pass into steps, the backward pass into
sequences.

Sums over states and channels are products and sums, not matrix products. For these shapes, a CPU is
faster at them. Besides, outputs and gradients do not change if a user allows TF32 or bfloat16 in
matrix products of float32, for example by ``torch.set_float32_matmul_precision``.

Arguments: ``drive``, ``step`` and ``grad_s`` are (steps, S, 1, E). ``A`` is (N, E). ``B`` and ``C``
are (steps, S, N, 1) per token, (N, E) if they are constant, or None for the constant 1. All have
the dtype of the states.
"""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from ..directions import Direction

__all__ = ['on_map', 'projection_in_order', 'tokens_in_order', 'walk_back', 'walk_forth']

_CPU_PIECE, _GPU_PIECE = 2**19, 2**26
"""Elements of a tensor with all states of a piece, which holds three such tensors.

A CPU is fastest within its cache, and a GPU needs large operations.
"""


def tokens_in_order(x: Tensor, walk: Direction) -> Tensor:
    """Put a (B, H, W, E) map in the order of the walk, (steps, S, 1, E)."""
    x = x.movedim(walk.axis, 0)
    return (x.flip(0) if walk.reverse else x).flatten(1, 2).unsqueeze(-2)


def projection_in_order(p: Tensor | None, walk: Direction, dtype: torch.dtype) -> Tensor | None:
    """Convert an operator's input or output projection to the form of this file."""
    if p is None:
        return None
    return p.to(dtype).t().contiguous() if p.dim() == 2 else tokens_in_order(p.to(dtype), walk).mT


def on_map(result: Any, walk: Direction, x: Tensor) -> Any:
    """Convert a result back: (steps, S, E) to a map like ``x``, (N, E) to (E, N), None to None."""
    if result is None or result.dim() == 2:
        return None if result is None else result.t()
    result = result.unflatten(1, (x.shape[0], x.shape[walk.lanes]))
    return (result.flip(0) if walk.reverse else result).movedim(0, walk.axis)


def walk_forth(
    drive: Tensor, step: Tensor, A: Tensor, B: Tensor | None, C: Tensor | None
) -> Tensor:
    """Compute states summed by ``C``, (steps, S, E), with the states of two pieces at a time."""
    state = drive.new_zeros(drive.shape[1], *A.shape)
    pieces = list(_pieces(0, state.numel(), drive, step, B, C))
    states, others, spare = drive.new_empty(3, len(pieces[0][0]), *state.shape)
    y = []
    for drive_, step_, B_, C_ in pieces:
        after = _decays(step_, A, out=states[: len(step_)])
        state = _recur(state, after, drive_, B_, out=after)
        y.append(_sum_over_states(after, C_, spare[: len(step_)]))
        states, others = others, states  # the next piece starts from the last state of this one
    return torch.cat(y)


def walk_back(
    grad_s: Tensor,
    drive: Tensor,
    step: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    *,
    wants_y: bool,
) -> tuple[Any, ...]:
    """Compute the gradients of :func:`walk_forth`, given the gradient ``grad_s`` of its result.

    Returns:
        The result of :func:`walk_forth`, or None unless ``wants_y``, and the gradients of drive,
        step, A, B and C without axes of size 1. The gradient of a projection that is None is None.
    """
    pieces = list(_pieces(1, len(step) * A.numel(), grad_s, drive, step, B, C))
    space = drive.new_empty(3, len(step) + 1, pieces[0][0].shape[1], *A.shape)
    results = [_walk_back_piece(space, A, wants_y, *piece) for piece in pieces]
    return tuple(_join(parts) for parts in zip(*results, strict=True))


def _walk_back_piece(
    space: Tensor,
    A: Tensor,
    wants_y: bool,
    grad_s: Tensor,
    drive: Tensor,
    step: Tensor,
    B: Tensor | None,
    C: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Run :func:`walk_back` for some sequences, in ``space`` for three tensors with all states.

    The states' gradients run against the walk: ``g[t] = grad_s[t] * C[t] + a[t+1] * g[t+1]``.
    """
    states, decays, grad_states = space[:, :, : step.shape[1]]
    before, after = states[:-1], states[1:]
    decays = _decays(step, A, out=decays[1:])
    _recur(states[0].zero_(), decays, drive, B, out=after)
    spare = grad_states = grad_states[1:]
    y = _sum_over_states(after, C, spare) if wants_y else None
    grad_C = _projection_grad(after, grad_s, C, spare)

    through_decays = _recur_back(grad_s, decays, C, out=grad_states)
    grad_exponent, spare = through_decays.mul_(before), after
    grad_B = _projection_grad(grad_states, drive, B, spare)
    grad_drive = _sum_over_states(grad_states, B, spare)
    grad_step = _sum_over_states(grad_exponent, A, spare)
    grad_A = grad_exponent.mul_(step).sum((0, 1))
    return y, grad_drive, grad_step, grad_A, grad_B, grad_C


def _decays(step: Tensor, A: Tensor, out: Tensor) -> Tensor:
    """Compute the factor by which each step decays the state before it."""
    return torch.mul(step, A, out=out).exp_()


def _recur(state: Tensor, decays: Tensor, drive: Tensor, B: Tensor | None, out: Tensor) -> Tensor:
    """Write the states after every step to ``out``, which may be ``decays``; return the last."""
    for decay, inflow, B_t, after in zip(decays, drive, _each_step(B), out, strict=False):
        if B_t is None:
            torch.addcmul(inflow, decay, state, out=after)
        else:
            torch.mul(decay, state, out=after).addcmul_(inflow, B_t)
        state = after
    return state


def _recur_back(grad_s: Tensor, decays: Tensor, C: Tensor | None, out: Tensor) -> Tensor:
    """Write the states' gradients to ``out``, multiply ``decays`` by them, and return it."""
    through = decays.new_zeros(decays.shape[1:])
    steps = zip(grad_s, decays, _each_step(C), out, strict=False)
    for upstream, decay, C_t, grad_state in reversed(list(steps)):
        if C_t is None:
            torch.add(through, upstream, out=grad_state)
        else:
            torch.addcmul(through, upstream, C_t, out=grad_state)
        through = decay.mul_(grad_state)
    return decays


def _sum_over_states(states: Tensor, weight: Tensor | None, spare: Tensor) -> Tensor:
    """Sum (steps, S, N, E) over the states, to (steps, S, E)."""
    return (states if weight is None else torch.mul(states, weight, out=spare)).sum(-2)


def _projection_grad(
    states: Tensor, tokens: Tensor, projection: Tensor | None, spare: Tensor
) -> Tensor | None:
    """The gradient of a projection between ``states`` and ``tokens``, (steps, S, N) or (N, E)."""
    if projection is None:
        return None
    return torch.mul(states, tokens, out=spare).sum((0, 1) if projection.dim() == 2 else -1)


def _each_step(projection: Tensor | None) -> Iterable[Tensor | None]:
    """Iterate over a projection at every step of the walk."""
    return repeat(projection) if projection is None or projection.dim() == 2 else projection


def _pieces(axis: int, elements: int, *tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Cut tensors along the steps (axis 0) or the sequences (axis 1), with all constants in each.

    Args:
        axis: The axis that is cut.
        elements: Elements of a tensor with all states at one position of the axis.
        tensors: Some of this file's arguments. The first one must not be a constant.
    """
    cpu = tensors[0] is not None and tensors[0].device.type == 'cpu'
    size = max(1, (_CPU_PIECE if cpu else _GPU_PIECE) // max(1, elements))
    return zip(
        *(repeat(p) if p is None or p.dim() == 2 else p.split(size, axis) for p in tensors),
        strict=False,
    )


def _join(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    """Join the results of all pieces: (N, E) are added up, and others are concatenated."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    return torch.stack(present).sum(0) if present[0].dim() == 2 else torch.cat(present, 1)
