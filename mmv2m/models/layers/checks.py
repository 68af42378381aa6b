"""Checks of settings that several layers and backbones share."""

from collections.abc import Sequence

__all__ = ['check_choices', 'check_counts']


def check_choices(**settings: tuple[object, Sequence[object]]) -> None:
    """Check that each setting has one of its possible values.

    Args:
        **settings: Value and possible values of each setting, by its name.

    Raises:
        ValueError: If a value is none of the possible ones.
    """
    for name, (value, choices) in settings.items():
        if value not in choices:
            possible = ', '.join(map(str, choices))
            raise ValueError(f'{name} must be one of {possible}, but got {value!r}')


def check_counts(**sizes: object) -> None:
    """Check that sizes are positive integers.

    Args:
        **sizes: Value of each size, by its name.

    Raises:
        ValueError: If a value is no positive integer.
    """
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f'{name} must be a positive integer, but got {value!r}')
