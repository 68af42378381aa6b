"""The ``'triton'`` backend: kernels in Triton, for any GPU that it knows."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from . import installed

__all__ = ['DEVICES', 'refusal']

DEVICES = ('cuda',)  # Triton's interpreter, which runs on the CPU, is for checks


def refusal(x: Tensor) -> str | None:
    """Why the kernels cannot run on ``x``."""
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
    """An operator; Triton, which is optional, is imported when the first one is asked for."""
    from ..gpu.operators import OPERATORS

    if name not in OPERATORS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if not installed.HAS_TRITON:
        raise AttributeError(f'{name} is not there: Triton is not installed')
    globals()[name] = operator = getattr(_operators(), name)
    return operator
