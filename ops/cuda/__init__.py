"""The kernel set in CUDA C++: ``kernels/``, and the functions that launch them.

It runs on NVIDIA GPUs, compiled by NVRTC when it is first needed, and on the CPU where tests
emulate it. It has what Triton cannot express at full speed; each function returns
``NotImplemented`` for what its kernels do not take. See :class:`mmv2m.ops.gpu.kernels.Kernels` for
what the functions do.
"""

from .conv import convs_backward, convs_forward
from .conv_projection import convs_project
from .coupled_backward import coupled_scans_backward
from .coupled_forward import coupled_scans_forward
from .norm import norm_gradients, norm_rows
from .projected_gradient import adds_projected_gradient
from .projection import project
from .scan_backward import scans_backward
from .scan_forward import scans_forward
from .ssm_forward import ssm_at_once
from .sums import sum_rows

__all__ = [
    'adds_projected_gradient',
    'convs_backward',
    'convs_forward',
    'convs_project',
    'coupled_scans_backward',
    'coupled_scans_forward',
    'norm_gradients',
    'norm_rows',
    'project',
    'scans_backward',
    'scans_forward',
    'ssm_at_once',
    'sum_rows',
]
