"""Whether the CPU's kernels can be compiled here."""

import pytest
import torch

from mmv2m.ops import choose_backend

__all__ = ['HAS_CPU_KERNELS', 'needs_cpu_kernels']

HAS_CPU_KERNELS = choose_backend('auto', torch.zeros(1)) == 'cpu'
needs_cpu_kernels = pytest.mark.skipif(not HAS_CPU_KERNELS, reason='there is no C++ compiler')
