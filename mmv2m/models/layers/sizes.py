"""Comparing sizes that an export may leave open."""

from typing import Any

from torch.fx.experimental.symbolic_shapes import statically_known_true

__all__ = ['is_known']


def is_known(condition: Any) -> bool:
    """Whether a condition on sizes holds for all sizes that a program is made for.

    Outside of an export or a compilation that is the condition itself. Asked as a plain ``if``,
    :func:`torch.export.export` would fix an open height or width to what its example has.

    Args:
        condition: Such as ``x.shape[1] == 14``.
    """
    return statically_known_true(condition)
