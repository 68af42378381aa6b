"""What a GPU does in a step, by the profiler."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ['kernels']


def kernels(step: Callable[[], Any]) -> list[tuple[str, int, float]]:
    """Name, calls and milliseconds of each kernel of a step, the longest first."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        step()
        torch.cuda.synchronize()
    found = [
        (event.key, event.count, event.self_device_time_total / 1e3)
        for event in profiler.key_averages()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    return sorted(found, key=lambda kernel: -kernel[2])
