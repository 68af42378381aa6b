"""The operators of ``triton_backend``, with the kernels that are in CUDA C++."""

from functools import partial

from ..triton_backend import single, ssm
from ..triton_backend.kernel_set import TRITON
from .conv import convs_backward, convs_forward
from .projection import project
from .scan_backward import scans_backward
from .scan_forward import scans_forward

__all__ = [
    'conv_backward',
    'conv_forward',
    'scan_backward',
    'scan_forward',
    'ssm_backward',
    'ssm_forward',
]

CUDA = TRITON._replace(
    convs_forward=convs_forward,
    convs_backward=convs_backward,
    project=project,
    scans_forward=scans_forward,
    scans_backward=scans_backward,
)

conv_forward = partial(single.conv_forward, kernels=CUDA)
conv_backward = partial(single.conv_backward, kernels=CUDA)
scan_forward = partial(single.scan_forward, kernels=CUDA)
scan_backward = partial(single.scan_backward, kernels=CUDA)
ssm_forward = partial(ssm.ssm_forward, kernels=CUDA)
ssm_backward = partial(ssm.ssm_backward, kernels=CUDA)
