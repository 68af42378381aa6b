"""The GPU that a benchmark runs on, and this clone's code; import this before mmv2m."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ['GIB', 'clear_memory', 'gpu_name', 'peak_gib']

GIB = 2**30

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def gpu_name() -> str:
    """Return the name of the GPU; without a GPU, exit with a message of one line."""
    if not torch.cuda.is_available():
        sys.exit('error: this benchmark needs a GPU, but PyTorch finds none')
    return torch.cuda.get_device_name()


def clear_memory() -> int:
    """Free the memory that no tensor needs, and return the bytes that are still in use.

    A peak that is measured afterwards belongs to one model only.

    cuBLAS keeps a workspace for each stream that ever used it, and each CUDA graph has its own.
    """
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


def peak_gib(step: Callable[[], Any], before: int) -> float:
    """Return the most memory that is in use during a step, in GiB.

    Args:
        step: It runs twice, because the first run may compile, and allocate memory that stays.
        before: Bytes that were in use before the step's tensors existed; they are subtracted.
    """
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        step()
    return (torch.cuda.max_memory_allocated() - before) / GIB
