"""What kernels have to know of the GPU that they are launched on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch

__all__ = ['EMULATED', 'Hardware', 'hardware_of', 'rehearsed_on']


class Hardware(NamedTuple):
    """A GPU's.

    Attributes:
        multiprocessors: How many there are.
        shared_bytes: Shared memory of a multiprocessor.
        shared_bytes_of_block: What a block may have of it.
    """

    multiprocessors: int
    shared_bytes: int
    shared_bytes_of_block: int

    @property
    def reserved_bytes(self) -> int:
        """What each block takes of shared memory for the system."""
        return self.shared_bytes - self.shared_bytes_of_block


EMULATED = Hardware(1, 228 * 1024, 227 * 1024)
"""What an emulation counts as: a multiprocessor of an H100."""

_local = threading.local()


def hardware_of(device: torch.device) -> Hardware:
    """That of a GPU; of tensors without memory, that of the GPU that they stand for."""
    if device.type == 'meta':
        device = getattr(_local, 'device', device)
    return _ask(device) if device.type == 'cuda' else EMULATED


@contextmanager
def rehearsed_on(device: torch.device) -> Iterator[None]:
    """Have tensors without memory stand for those on a device, in this thread."""
    before, _local.device = getattr(_local, 'device', device), device
    try:
        yield
    finally:
        _local.device = before


@cache
def _ask(device: torch.device) -> Hardware:
    found = torch.cuda.get_device_properties(device)
    return Hardware(
        found.multi_processor_count,
        found.shared_memory_per_multiprocessor,
        found.shared_memory_per_block_optin,  # type: ignore[attr-defined]
    )
