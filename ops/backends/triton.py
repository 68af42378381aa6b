"""The ``'triton'`` backend: kernels in Triton, for all GPUs that Triton supports."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from . import installed

__all__ = ['DEVICES', 'refusal']

DEVICES = ('cuda',)  # Triton's interpreter runs on the CPU, but only for tests


def refusal(x: Tensor) -> str | None:
    """Say why the kernels cannot run on ``x``, or return None."""
    if not installed.HAS_TRITON:
        return 'Triton is not installed: pip install triton'
    if x.dtype == torch.float64:
        return 'its kernels have no float64; cast the input, or use the reference'
    if x.device.type != 'cuda' and not installed.INTERPRETED:
        return f'the input is on {x.device}, but its kernels need a GPU (or TRITON_INTERPRET=1)'
    return None


@cache
def _operators() -> Any:
    from .. import triton as kernel_set
    from ..gpu.kernels import Kernels
    from ..gpu.operators import Operators

    return Operators(Kernels(kernel_set))


def __getattr__(name: str) -> Any:
    """Look up an operator. The first look-up imports Triton, which is optional."""
    from ..gpu.operators import OPERATORS

    if name not in OPERATORS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if not installed.HAS_TRITON:
        raise AttributeError(f'{name} needs Triton, which is not installed')
    globals()[name] = operator = getattr(_operators(), name)
    return operator
