"""What a benchmark runs: this clone's code, on a GPU. To be imported before mmv2m."""

import sys
from pathlib import Path

import torch

__all__ = ['gpu_name']

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def gpu_name() -> str:
    """The name of the GPU; where there is none, the process ends in one line that says so."""
    if not torch.cuda.is_available():
        sys.exit('error: this benchmark needs a GPU, but PyTorch finds none')
    return torch.cuda.get_device_name()
