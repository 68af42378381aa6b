"""The least time that a GPU can take, from its copy bandwidth and its rate of exponentials."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from triton.testing import do_bench

__all__ = ['Ceilings']

EXPONENTIALS_PER_CLOCK = 16
"""Exponentials per clock of one multiprocessor, on NVIDIA GPUs of compute capability 7 to 9."""


@dataclass(frozen=True)
class Ceilings:
    """The two rates of a GPU that limit a scan.

    Attributes:
        copy_bytes_per_second: Measured bytes that a large copy on the device reads and writes.
        exponentials_per_second: Rate of all special function units at the highest clock.
    """

    copy_bytes_per_second: float
    exponentials_per_second: float

    @classmethod
    def of_gpu(cls) -> Ceilings:
        """Measure or compute the rates of the present GPU."""
        return cls(_copy_bandwidth(), _exponentials_per_second())

    def floor(self, moved: float, exponentials: float) -> float:
        """Return the milliseconds for the bytes or for the exponentials, whichever take longer."""
        return 1e3 * max(
            moved / self.copy_bytes_per_second, exponentials / self.exponentials_per_second
        )

    def as_dict(self) -> dict[str, float]:
        """Return the rates by name."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f'copies {self.copy_bytes_per_second / 1e12:.2f} TB/s, '
            f'{self.exponentials_per_second / 1e12:.2f} T exponentials/s'
        )


def _copy_bandwidth() -> float:
    source = torch.empty(2**30, dtype=torch.uint8, device='cuda')
    target = torch.empty_like(source)
    return 2 * source.numel() / (do_bench(lambda: target.copy_(source)) * 1e-3)


def _exponentials_per_second() -> float:
    properties = torch.cuda.get_device_properties(0)
    return EXPONENTIALS_PER_CLOCK * properties.multi_processor_count * properties.clock_rate * 1e3
