"""The ``'cuda'`` backend: kernels in CUDA C++, and in Triton what these have not.

An operator is compiled before it is launched, and launched again instead of run again; see
:mod:`mmv2m.ops.runtime`.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from . import installed, triton

__all__ = ['DEVICES', 'refusal']

DEVICES = ('cuda',)


def refusal(x: Tensor) -> str | None:
    """Why the kernels in CUDA C++, and those in Triton beside them, cannot run on ``x``."""
    if installed.INTERPRETED or x.device.type != 'cuda' or torch.version.hip is not None:
        return f'the input is on {x.device}, but its kernels need an NVIDIA GPU'
    reason = triton.refusal(x)
    if reason is not None:
        return reason
    if not installed.HAS_NVRTC:
        return 'cuda-bindings is not installed: pip install cuda-bindings'
    if not installed.is_recent(x.device):
        return 'its kernels need compute capability 8.0'
    return None


@cache
def _operators() -> Any:
    from .. import cuda
    from .. import triton as triton_kernels
    from ..gpu.kernels import Kernels
    from ..gpu.operators import Operators
    from ..runtime.rehearsal import rehearsed
    from ..runtime.replay import replayed

    def prepare(function: Callable[..., Any], gradients: Any = None) -> Callable[..., Any]:
        return replayed(rehearsed(function, gradients))

    return Operators(Kernels(cuda, triton_kernels), prepare)


def __getattr__(name: str) -> Any:
    """An operator; the kernels are imported when the first one is asked for."""
    from ..gpu.operators import COUPLED, OPERATORS

    if name not in (*OPERATORS, *COUPLED):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if not installed.HAS_TRITON:
        raise AttributeError(f'{name} is not there: Triton is not installed')
    globals()[name] = operator = getattr(_operators(), name)
    return operator
