"""Continuous orders of a map's tokens, in which each token is next to the one before it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ['MOVES', 'Snake', 'merge', 'snake', 'spread']

MOVES = ('start', 'right', 'left', 'up', 'down')
"""Moves by which a token is reached from the one before it."""


class Snake(NamedTuple):
    """Four orders of the L tokens of a map.

    Attributes:
        order: The token that each step visits, (4, L). Tokens are numbered row by row.
        inverse: The step that visits each token, (4, L).
        move: The move by which each step reaches its token, an index of :data:`MOVES`, (4, L).
    """

    order: Tensor
    inverse: Tensor
    move: Tensor


def snake(height: int, width: int, device: torch.device | None = None) -> Snake:
    """Make PlainMamba's four orders of the tokens of a map.

    They start at the upper left and go row by row, the same way back, column by column, and the
    same way back. Every other row or column is walked in the opposite direction, so that each step
    goes to a neighbour.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        device: Device of the tensors.
    """
    tokens = torch.arange(height * width, device=device).view(height, width)
    rows, columns = _wind(tokens), _wind(tokens.t())
    order = torch.stack((rows, rows.flip(0), columns, columns.flip(0)))
    down, right = (order // width).diff(), (order % width).diff()
    move = torch.where(right > 0, 1, torch.where(right < 0, 2, torch.where(down < 0, 3, 4)))
    return Snake(order, order.argsort(), torch.nn.functional.pad(move, (1, 0)))


def _wind(tokens: Tensor) -> Tensor:
    """Read a grid row by row, every other row backwards."""
    odd = torch.arange(len(tokens), device=tokens.device)[:, None] % 2
    return torch.where(odd > 0, tokens.flip(1), tokens).flatten()


def spread(x: Tensor, snake: Snake) -> Tensor:
    """Put a map's tokens, (B, L, E), in the four orders, (B, 4, L, E)."""
    return _Spread.apply(x, snake.order, snake.inverse)


def merge(y: Tensor, snake: Snake) -> Tensor:
    """Put four sequences, (B, 4, L, E), back in the map's order, and sum them, (B, L, E)."""
    return _Merge.apply(y, snake.order, snake.inverse)


def _spread(x: Tensor, order: Tensor) -> Tensor:
    return x.index_select(1, order.flatten()).unflatten(1, tuple(order.shape))


def _merge(y: Tensor, inverse: Tensor) -> Tensor:
    orders, length = inverse.shape
    joined = inverse + length * torch.arange(orders, device=inverse.device)[:, None]
    return _spread(y.flatten(1, 2), joined).sum(1)


class _Spread(torch.autograd.Function):
    """A gather whose gradient is a gather too, where PyTorch would use a scatter."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        return _spread(x, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (inverse,) = ctx.saved_tensors
        return _merge(grads[0], inverse), None, None


class _Merge(torch.autograd.Function):
    """The transpose of :class:`_Spread`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        return _merge(y, inverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (order,) = ctx.saved_tensors
        return _spread(grads[0], order), None, None
