"""The ``'cuda'`` backend: kernels in CUDA C++, and kernels in Triton where there is none in C++.

The kernels of an operator are compiled before the first launch. Later calls of the operator only
repeat the launches; see :mod:`mmv2m.ops.runtime`.
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
    """Say why the kernels in CUDA C++ and Triton cannot run on ``x``, or return None."""
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
    """Look up an operator. The first look-up imports the kernels."""
    from ..gpu.operators import COUPLED, OPERATORS

    if name not in (*OPERATORS, *COUPLED):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if not installed.HAS_TRITON:
        raise AttributeError(f'{name} needs Triton, which is not installed')
    globals()[name] = operator = getattr(_operators(), name)
    return operator
