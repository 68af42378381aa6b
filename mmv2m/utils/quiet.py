"""Without mmengine's lines of the log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger

__all__ = ['without_information']


@contextmanager
def without_information() -> Iterator[None]:
    """Log warnings and errors only: ``init_weights`` writes lines for each parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
