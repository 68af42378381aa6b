"""Properties of the GPU on which kernels are launched."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch

__all__ = ['EMULATED', 'Hardware', 'hardware_of', 'rehearsed_on']


class Hardware(NamedTuple):
    """Properties of a GPU.

    Attributes:
        multiprocessors: Number of multiprocessors.
        shared_bytes: Bytes of shared memory of a multiprocessor.
        shared_bytes_of_block: Bytes of shared memory that a block may have.
    """

    multiprocessors: int
    shared_bytes: int
    shared_bytes_of_block: int

    @property
    def reserved_bytes(self) -> int:
        """Bytes of shared memory that the system reserves for each block."""
        return self.shared_bytes - self.shared_bytes_of_block


EMULATED = Hardware(1, 228 * 1024, 227 * 1024)
"""Properties for emulations: one multiprocessor of an H100."""

_local = threading.local()


def hardware_of(device: torch.device) -> Hardware:
    """Properties of a GPU, also of the GPU for which tensors without memory stand."""
    if device.type == 'meta':
        device = getattr(_local, 'device', device)
    return _ask(device) if device.type == 'cuda' else EMULATED


@contextmanager
def rehearsed_on(device: torch.device) -> Iterator[None]:
    """Let tensors without memory stand for tensors on a device, in this thread."""
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
