"""The coupled scan in plain PyTorch: its definition, and its passes for the reference backend.

The definition goes token by token, and autograd can differentiate it. The passes go by
anti-diagonals, because the tokens of one do not depend on each other. The tokens of a map are put
in the order of its diagonals, (L, B, ...), so that a diagonal is a slice. Two edges hold the states
that each row and each column passes on: (I, B, E, N) for ``p``, and (J, B, E, N) for ``q``. A
diagonal is a slice of both edges, with the columns counted from their far end. The passes take some
images at a time, which bounds their memory, and sum gradients in a fixed order.

Shape letters: ``I`` steps of a corner's second direction, ``J`` of its first, ``L`` = ``I J``.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..directions import Corner, read_corners
from ..precision import state_dtype

__all__ = ['coupled_scan_reference', 'walk_coupled_back', 'walk_coupled_forth']

_PIECE = 2**22
"""Elements of a tensor with all states of a piece. The backward pass holds about ten of them."""


def coupled_scan_reference(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    weight: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    corners: str = 'right-down',
) -> Tensor:
    """Compute the exact 2D recurrence, one token after the other.

    :func:`mmv2m.ops.coupled_scan` describes the result and the arguments, except that the corners
    are text here, as :func:`..directions.write_corners` writes it.
    """
    u, steps = x.to(state_dtype(x)), _time_steps(x, delta, delta_bias, delta_softplus)[1]
    B, C = B.to(u.dtype), C.to(u.dtype)
    maps = []
    for k, corner in enumerate(_corners_of(corners)):
        inputs = (u[k], steps[:, k], A, weight, B[k], C[k])
        maps.append(_define_one(*inputs, corner))
    y = torch.stack(maps)
    return (y if D is None else y + D * u).to(x.dtype)


def _define_one(
    u: Tensor, steps: Tensor, A: Tensor, w: Tensor, B: Tensor, C: Tensor, corner: Corner
) -> Tensor:
    """Compute the sum over states of a (B, H, W, E) map from one corner."""
    grid = u.shape[1:3]
    nothing = u.new_zeros(u.shape[0], *A.shape[2:])
    p: dict[tuple[int, int], Tensor] = {}
    q: dict[tuple[int, int], Tensor] = {}
    outputs: dict[tuple[int, int], Tensor] = {}
    for i, row in enumerate(corner.second.steps(grid[corner.second.axis - 1])):
        for j, column in enumerate(corner.first.steps(grid[corner.first.axis - 1])):
            at = (row, column) if corner.first.axis == 2 else (column, row)
            token = (slice(None), *at)
            step = steps[(slice(None), *token)].unsqueeze(-1)
            B_t, C_t = B[token].unsqueeze(-3), C[token].unsqueeze(-3)
            drive = step * u[token].unsqueeze(-1)
            before = p.get((i, j - 1), nothing), q.get((i - 1, j), nothing)
            decays = [
                [w[k, n].unsqueeze(-1) * torch.exp(step[k] * A[k, n]) for n in (0, 1)]
                for k in (0, 1)
            ]
            p[i, j], q[i, j] = (
                decays[k][0] * before[0] + decays[k][1] * before[1] + drive[k] * B_t[..., k, :]
                for k in (0, 1)
            )
            outputs[at] = (C_t[..., 0, :] * p[i, j] + C_t[..., 1, :] * q[i, j]).sum(-1)
    if not outputs:
        return u.clone()
    rows = [
        torch.stack([outputs[row, column] for column in range(grid[1])], 1)
        for row in range(grid[0])
    ]
    return torch.stack(rows, 1)


def walk_coupled_forth(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    weight: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    corners: str,
) -> Tensor:
    """Compute the operator's result, given its arguments without the backend."""
    u, steps = x.to(state_dtype(x)), _time_steps(x, delta, delta_bias, delta_softplus)[1]
    y = u.new_zeros(u.shape)
    for piece, order in _pieces(u, A, corners):
        tokens = _Tokens.of(u, steps, B, C, piece, order)
        _scatter(y[piece], tokens.y_of(_states(tokens, A, weight, order)), order)
    return (y if D is None else y.addcmul_(D, u)).to(x.dtype)


def walk_coupled_back(
    grad_y: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    weight: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    corners: str,
) -> tuple[Tensor | None, ...]:
    """Compute gradients of the operator's arguments from ``x`` to ``delta_bias``, or None."""
    u, (raw, steps) = x.to(state_dtype(x)), _time_steps(x, delta, delta_bias, delta_softplus)
    grad_y = grad_y.to(u.dtype)
    grad_u, grad_steps = torch.zeros_like(u), torch.zeros_like(steps)
    grad_B, grad_C = u.new_zeros(B.shape), u.new_zeros(C.shape)
    grad_A, grad_weight = torch.zeros_like(A), torch.zeros_like(weight)
    for piece, order in _pieces(u, A, corners):
        tokens = _Tokens.of(u, steps, B, C, piece, order)
        of_y = _gather(grad_y[piece], order)
        of = _gradients_of_piece(tokens, of_y, A, weight, order)
        _scatter(grad_u[piece], of.u, order)
        for k in (0, 1):
            _scatter(grad_steps[(k, *piece)], of.steps[k], order)
            _scatter(grad_B[piece][..., k, :], of.B[k], order)
            _scatter(grad_C[piece][..., k, :], of.C[k], order)
        grad_A += of.A
        grad_weight += of.weight
    of_D = None if D is None else (grad_y * u).sum((0, 1, 2, 3))
    if D is not None:
        grad_u.addcmul_(grad_y, D)
    grad_raw = grad_steps * torch.sigmoid(raw) if delta_softplus else grad_steps
    of_bias = None if delta_bias is None else grad_raw.sum((1, 2, 3, 4))
    return (
        *(grad_u.to(x.dtype), grad_raw.to(x.dtype), grad_A, grad_weight),
        *(grad_B.to(x.dtype), grad_C.to(x.dtype), of_D, of_bias),
    )


class _Order(NamedTuple):
    """The tokens of a map by the anti-diagonals of a corner.

    Attributes:
        tokens: Flat position on the (H, W) map of each token, diagonal by diagonal.
        diagonals: Three slices for each diagonal: of ``tokens``, of the edge that holds ``p`` of
            each row, and of the edge that holds ``q`` of each column.
        sides: I and J.
    """

    tokens: Tensor
    diagonals: list[tuple[slice, slice, slice]]
    sides: tuple[int, int]


class _Tokens(NamedTuple):
    """The recurrence's inputs for some images, in the order of the diagonals.

    Attributes:
        u: (L, B, E, 1).
        steps: Time step of each state, (L, B, E, 1).
        B: Input projection of each state, (L, B, 1, N).
        C: Output projection of each state, (L, B, 1, N).
    """

    u: Tensor
    steps: tuple[Tensor, Tensor]
    B: tuple[Tensor, Tensor]
    C: tuple[Tensor, Tensor]

    @classmethod
    def of(
        cls, u: Tensor, steps: Tensor, B: Tensor, C: Tensor, piece: Any, order: _Order
    ) -> '_Tokens':
        """Gather the inputs of a piece of the maps."""

        def both(projection: Tensor) -> tuple[Tensor, Tensor]:
            found = _gather(projection[piece].to(u.dtype).flatten(-2), order)
            first, second = found.unflatten(-1, (2, -1)).unbind(-2)
            return first.unsqueeze(-2), second.unsqueeze(-2)

        first, second = (_gather(steps[(k, *piece)], order).unsqueeze(-1) for k in (0, 1))
        return cls(_gather(u[piece], order).unsqueeze(-1), (first, second), both(B), both(C))

    def y_of(self, states: tuple[Tensor, Tensor]) -> Tensor:
        """Sum the states after each token, (L, B, E)."""
        return (states[0] * self.C[0]).add_(states[1] * self.C[1]).sum(-1)


class _Gradients(NamedTuple):
    """Gradients of :class:`_Tokens`, without axes of size 1, and of both parameters."""

    u: Tensor
    steps: tuple[Tensor, ...]
    B: tuple[Tensor, ...]
    C: tuple[Tensor, ...]
    A: Tensor
    weight: Tensor


def _states(tokens: _Tokens, A: Tensor, w: Tensor, order: _Order) -> tuple[Tensor, Tensor]:
    """Compute both states after each token, (L, B, E, N)."""
    return _walk(tokens, A, w, order)[1]


def _walk(
    tokens: _Tokens, A: Tensor, w: Tensor, order: _Order
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Compute both states before each token, and after it, each (L, B, E, N)."""
    u, steps, B, _ = tokens
    before, after = u.new_empty(2, 2, *u.shape[:-1], A.shape[-1])
    edges = [u.new_zeros(side, *before.shape[2:]) for side in order.sides]
    for here, rows, columns in order.diagonals:
        before[0, here], before[1, here] = edges[0][rows], edges[1][columns]
        for k in (0, 1):
            drive = steps[k][here] * u[here] * B[k][here]
            for of in (0, 1):
                drive += _decay(steps[k][here], A, w, k, of) * before[of, here]
            after[k, here] = drive
        edges[0][rows], edges[1][columns] = after[0, here], after[1, here]
    return (before[0], before[1]), (after[0], after[1])


def _decay(step: Tensor, A: Tensor, w: Tensor, k: int, of: int) -> Tensor:
    """The factor by which state ``of`` before a token enters the token's state ``k``."""
    return torch.exp(step * A[k, of]).mul_(w[k, of].unsqueeze(-1))


def _walk_back(
    tokens: _Tokens, of_y: Tensor, A: Tensor, w: Tensor, order: _Order
) -> tuple[Tensor, Tensor]:
    """Compute gradients of both states after each token, (L, B, E, N), against the walk."""
    of_state = [of_y.unsqueeze(-1) * C for C in tokens.C]
    edges = [of_y.new_zeros(side, *of_state[0].shape[1:]) for side in order.sides]
    for here, *lines in reversed(order.diagonals):
        for k in (0, 1):
            of_state[k][here] += edges[k][lines[k]]
        for of in (0, 1):
            edges[of][lines[of]] = sum(
                _decay(tokens.steps[k][here], A, w, k, of) * of_state[k][here] for k in (0, 1)
            )
    return of_state[0], of_state[1]


def _gradients_of_piece(
    tokens: _Tokens, of_y: Tensor, A: Tensor, w: Tensor, order: _Order
) -> _Gradients:
    """Compute gradients for some images, given the gradient of their output, (L, B, E)."""
    u, steps, B, _ = tokens
    before, after = _walk(tokens, A, w, order)
    of_C = tuple((of_y.unsqueeze(-1) * state).sum(-2) for state in after)
    of_states = _walk_back(tokens, of_y, A, w, order)
    grad_A, grad_w = torch.zeros_like(A), torch.zeros_like(w)
    of_u, of_steps, of_B = torch.zeros_like(of_y), [], []
    for k in (0, 1):
        of_drive = (of_states[k] * B[k]).sum(-1)
        of_u.addcmul_(of_drive, steps[k][..., 0])
        of_B.append((of_states[k] * (steps[k] * u)).sum(-2))
        of_step = of_drive * u[..., 0]
        for of in (0, 1):
            shared = torch.exp(steps[k] * A[k, of]).mul_(before[of]).mul_(of_states[k])
            grad_w[k, of] = shared.sum((0, 1, 3))
            shared *= w[k, of].unsqueeze(-1)
            of_step += (shared * A[k, of]).sum(-1)
            grad_A[k, of] = shared.mul_(steps[k]).sum((0, 1))
        of_steps.append(of_step)
    return _Gradients(of_u, tuple(of_steps), tuple(of_B), of_C, grad_A, grad_w)


def _corners_of(corners: str) -> tuple[Corner, ...]:
    return read_corners(corners)[0].corners


def _pieces(u: Tensor, A: Tensor, corners: str) -> Iterator[tuple[Any, _Order]]:
    """Divide maps into pieces: an index of the corner and images, and the order of the tokens."""
    batch, height, width = u.shape[1:4]
    size = max(1, _PIECE // max(1, height * width * A[0, 0].numel()))
    for k, corner in enumerate(_corners_of(corners)):
        order = _diagonals(corner, height, width)
        order = order._replace(tokens=order.tokens.to(u.device))
        for first in range(0, batch, size):
            yield (k, slice(first, first + size)), order


@lru_cache(maxsize=256)  # bounded, because images may have any number of sizes
def _diagonals(corner: Corner, height: int, width: int) -> _Order:
    """The order of a map's tokens from a corner."""
    grid = (height, width)
    numbers = torch.arange(height * width).view(grid)
    backwards = [way.axis - 1 for way in (corner.first, corner.second) if way.reverse]
    numbers = numbers.flip(backwards)
    numbers = numbers if corner.first.axis == 2 else numbers.t()
    rows, columns = numbers.shape
    tokens, diagonals, begin = [], [], 0
    for d in range(rows + columns - 1 if numbers.numel() else 0):
        low, high = max(0, d - columns + 1), min(rows, d + 1)
        here = torch.arange(low, high)
        tokens.append(numbers[here, d - here])
        end, shift = begin + high - low, columns - 1 - d
        diagonals.append((slice(begin, end), slice(low, high), slice(low + shift, high + shift)))
        begin = end
    return _Order(torch.cat(tokens) if tokens else numbers.flatten(), diagonals, (rows, columns))


def _gather(maps: Tensor, order: _Order) -> Tensor:
    """Put (B, H, W, C) in the order of the diagonals, (L, B, C)."""
    return maps.flatten(1, 2).index_select(1, order.tokens).transpose(0, 1).contiguous()


def _scatter(maps: Tensor, values: Tensor, order: _Order) -> None:
    """Undo :func:`_gather`, and write the result to a view of (B, H, W, C) maps."""
    rows, columns = order.tokens // maps.shape[2], order.tokens % maps.shape[2]
    maps[:, rows, columns] = values.transpose(0, 1)


def _time_steps(
    x: Tensor, delta: Tensor, bias: Tensor | None, softplus: bool
) -> tuple[Tensor, Tensor]:
    """Compute both states' time steps before and after the softplus."""
    raw = delta.to(state_dtype(x))
    if bias is not None:
        raw = raw + bias[:, None, None, None, None]
    return raw, F.softplus(raw) if softplus else raw
