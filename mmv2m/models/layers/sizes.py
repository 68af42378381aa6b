"""Which sizes a layer may have, and comparing sizes that an export may leave open."""

from typing import Any

from torch.fx.experimental.symbolic_shapes import statically_known_true

__all__ = ['check_counts', 'is_known']


def check_counts(**sizes: object) -> None:
    """Raise a ValueError for a size, given by its name, that is no positive integer."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f'{name} must be a positive integer, but got {value!r}')


def is_known(condition: Any) -> bool:
    """Whether a condition on sizes holds for all sizes that a program is made for.

    Outside of an export or a compilation that is the condition itself. Asked as a plain ``if``,
    :func:`torch.export.export` would fix an open height or width to what its example has.

    Args:
        condition: Such as ``x.shape[1] == 14``.
    """
    return statically_known_true(condition)
