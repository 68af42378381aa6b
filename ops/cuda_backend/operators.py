"""The operators of ``triton_backend``, with the kernels that are in CUDA C++, and replayed."""

from functools import partial

from ..triton_backend import gate, gelu, norm, single, ssm, ssm_2d
from ..triton_backend.kernel_set import TRITON
from . import norm as cuda_norm
from .conv import convs_backward, convs_forward
from .conv_projection import convs_project
from .projection import project
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

conv_forward = replayed(partial(single.conv_forward, kernels=CUDA))
conv_backward = replayed(partial(single.conv_backward, kernels=CUDA))
scan_forward = replayed(partial(single.scan_forward, kernels=CUDA))
scan_backward = partial(
    single.scan_backward, gradients=replayed(partial(single.scan_gradients, kernels=CUDA))
)
ssm_forward = replayed(partial(ssm.ssm_forward, kernels=CUDA))
ssm_backward = replayed(partial(ssm.ssm_backward, kernels=CUDA))
ssm_2d_forward = replayed(partial(ssm_2d.ssm_2d_forward, kernels=CUDA))
ssm_2d_backward = replayed(partial(ssm_2d.ssm_2d_backward, kernels=CUDA))
gate_forward = replayed(gate.gate_forward)
gate_backward = replayed(gate.gate_backward)
gelu_forward = replayed(gelu.gelu_forward)
gelu_backward = replayed(partial(gelu.gelu_backward, sum_rows=sum_rows))
norm_forward = replayed(norm.norm_forward)
norm_backward = replayed(cuda_norm.norm_backward)
add_norm_forward = replayed(norm.add_norm_forward)
add_norm_backward = replayed(cuda_norm.add_norm_backward)
