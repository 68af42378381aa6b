"""The optional packages that are installed, and the capability of GPUs."""

import importlib.util
import os
from functools import cache

import torch

__all__ = ['HAS_MAMBA_SSM', 'HAS_NVRTC', 'HAS_TRITON', 'INTERPRETED', 'is_recent']

HAS_NVRTC = importlib.util.find_spec('cuda') is not None and (
    importlib.util.find_spec('cuda.bindings') is not None
)
HAS_TRITON = importlib.util.find_spec('triton') is not None
HAS_MAMBA_SSM = importlib.util.find_spec('mamba_ssm') is not None
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
"""Whether Triton runs in its interpreter. Triton reads this switch only once too."""


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@torch.compiler.assume_constant_result  # tracing it would warn about the cache
def is_recent(device: torch.device) -> bool:
    """Whether a GPU has compute capability 8.0 or more."""
    return _capability(device) >= (8, 0)
