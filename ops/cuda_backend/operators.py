"""The operators of ``triton_backend``, with the kernels that are in CUDA C++, and replayed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..triton_backend import gate, gelu, norm, single, ssm, ssm_2d
from ..triton_backend.kernel_set import TRITON
from . import norm as cuda_norm
from .conv import convs_backward, convs_forward
from .conv_projection import convs_project
from .projection import project
from .rehearsal import Gradients, rehearsed
from .replay import replayed
from .scan_backward import scans_backward
from .scan_forward import scans_forward
from .sums import sum_rows
from .through import adds_through

__all__ = [
    'add_norm_backward',
    'add_norm_forward',
    'conv_backward',
    'conv_forward',
    'gate_backward',
    'gate_forward',
    'gelu_backward',
    'gelu_forward',
    'norm_backward',
    'norm_forward',
    'scan_backward',
    'scan_forward',
    'ssm_2d_backward',
    'ssm_2d_forward',
    'ssm_backward',
    'ssm_forward',
]

CUDA = TRITON._replace(
    convs_forward=convs_forward,
    convs_backward=convs_backward,
    adds_through=adds_through,
    project=project,
    convs_project=convs_project,
    scans_forward=scans_forward,
    scans_backward=scans_backward,
    sum_rows=sum_rows,
)


Run = Callable[..., Any]


def _first(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result[0]


def _gradients_of(backward: Run) -> Gradients:
    """Of an operator whose backward pass takes the gradient of its output, then its arguments."""
    return lambda args, result: backward(torch.empty_like(_first(result)), *args)


def _gradients_of_ssm_2d(args: Sequence[Any], result: Any) -> None:
    x, gate, *others, trains = args
    if trains:
        kept = [t for t in result[1:] if t is not None]
        into: tuple[Tensor | None, ...] = (None, None)
        if gate is not None:
            into = x.new_empty((*x.shape[:-1], 2 * x.shape[-1])).chunk(2, -1)
        _ssm_2d_backward(torch.empty_like(result[0]), kept, x, gate, *others, into)


def _gradients_of_gate(args: Sequence[Any], result: Any) -> None:
    x, z = args
    into = z.new_empty((*z.shape[:-1], 2 * z.shape[-1])).chunk(2, -1)[1]
    gate.gate_backward(torch.empty_like(result), x, z, into, True)


def _gradients_of_gelu(args: Sequence[Any], result: Any) -> None:
    x, bias = args
    rows = result.flatten(0, -2)
    _gelu_backward(torch.empty_like(rows), x.flatten(0, -2), bias, torch.empty_like(rows))


def _gradients_of_add_norm(args: Sequence[Any], result: Any) -> None:
    _, _, *others = args
    for begins in (False, True):
        _add_norm_backward(*map(torch.empty_like, result), result[1], *others, begins)


_ssm_2d_backward: Run = partial(ssm_2d.ssm_2d_backward, kernels=CUDA)
_ssm_backward: Run = partial(ssm.ssm_backward, kernels=CUDA)
_conv_backward: Run = partial(single.conv_backward, kernels=CUDA)
_scan_gradients: Run = partial(single.scan_gradients, kernels=CUDA)
_add_norm_backward: Run = cuda_norm.add_norm_backward
_gelu_backward: Run = partial(gelu.gelu_backward, sum_rows=sum_rows)


def _ready(function: Run, gradients: Gradients | None = None) -> Run:
    """Compiled before it is launched, and launched again instead of run again."""
    return replayed(rehearsed(function, gradients))


conv_forward = _ready(partial(single.conv_forward, kernels=CUDA), _gradients_of(_conv_backward))
conv_backward = _ready(_conv_backward)
scan_forward = _ready(partial(single.scan_forward, kernels=CUDA), _gradients_of(_scan_gradients))
scan_backward = partial(single.scan_backward, gradients=_ready(_scan_gradients))
ssm_forward = _ready(partial(ssm.ssm_forward, kernels=CUDA), _gradients_of(_ssm_backward))
ssm_backward = _ready(_ssm_backward)
ssm_2d_forward = _ready(partial(ssm_2d.ssm_2d_forward, kernels=CUDA), _gradients_of_ssm_2d)
ssm_2d_backward = _ready(_ssm_2d_backward)
gate_forward = _ready(gate.gate_forward, _gradients_of_gate)
gate_backward = _ready(gate.gate_backward)
gelu_forward = _ready(gelu.gelu_forward, _gradients_of_gelu)
gelu_backward = _ready(_gelu_backward)
norm_forward = _ready(norm.norm_forward, _gradients_of(cuda_norm.norm_backward))
norm_backward = _ready(cuda_norm.norm_backward)
add_norm_forward = _ready(norm.add_norm_forward, _gradients_of_add_norm)
add_norm_backward = _ready(cuda_norm.add_norm_backward)
