"""The kernel set in CUDA C++: ``kernels/``, and the functions that launch the kernels.

NVRTC compiles the kernels for NVIDIA GPUs when they are first needed, and tests emulate them on the
CPU. The set has kernels that Triton cannot express at full speed. Each function returns
``NotImplemented`` for inputs that its kernels do not support.
:class:`mmv2m.ops.gpu.kernels.Kernels` describes the functions.
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
