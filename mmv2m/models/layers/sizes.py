"""Comparison of sizes that an export may leave open."""

from typing import Any

from torch.fx.experimental.symbolic_shapes import statically_known_true

__all__ = ['is_known']


def is_known(condition: Any) -> bool:
    """Whether a condition on sizes holds for all sizes for which a program is made.

    Outside of an export or a compilation, this is the condition itself. With a plain ``if`` on the
    condition, :func:`torch.export.export` would fix an open height or width to the example's.

    Args:
        condition: A condition such as ``x.shape[1] == 14``.
    """
    return statically_known_true(condition)
