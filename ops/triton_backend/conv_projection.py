"""Convolution, and projection of what it makes."""

from collections.abc import Sequence

from torch import Tensor

from .conv import convs_forward
from .projection import Projected, project

__all__ = ['convs_project']


def convs_project(
    x: Tensor,
    gate: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    directions: Sequence[str],
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    states: int,
) -> tuple[Tensor, Projected]:
    """Convolve a map in several directions, and project the tokens of all these.

    Args:
        x: (B, H, W, E), the same for all directions, or (K, B, H, W, E).
        gate: (B, H, W, E), whose SiLU multiplies ``x``, or None.
        weight: (E, taps), float32.
        bias: (E,), float32, or None.
        directions: K names of directions.
        x_proj: (R + sides * N, E).
        dt_proj: (E, R).
        dt_bias: (E,), float32.
        states: N.

    Returns:
        The convolved map, (K, B, H, W, E), and its projection.
    """
    y = convs_forward(x, gate, weight, bias, directions)
    return y, project(y, x_proj, dt_proj, dt_bias, states)
