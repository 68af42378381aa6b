"""A way to silence mmengine's log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger

__all__ = ['without_information']


@contextmanager
def without_information() -> Iterator[None]:
    """Log warnings and errors only, since ``init_weights`` logs several lines per parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
