"""The kernel set in Triton: ``kernels/``, and the functions that launch the kernels.

It runs on any GPU that Triton supports, and on the CPU by Triton's interpreter. Triton is optional,
so only ``ops/backends`` imports this package, when a kernel is needed.
:class:`mmv2m.ops.gpu.kernels.Kernels` describes the functions.
"""

from .conv import adds_projected_gradient, convs_backward, convs_forward
from .expansion import expand
from .gate import gate_backward, gate_forward
from .gelu import column_sums, gelu_forward, gelu_gradients
from .norm import norm_gradients, norm_rows
from .projection import project
from .projection_backward import project_backward
from .scan_backward import scans_backward
from .scan_forward import scans_forward
from .sums import sum_rows

__all__ = [
    'adds_projected_gradient',
    'column_sums',
    'convs_backward',
    'convs_forward',
    'expand',
    'gate_backward',
    'gate_forward',
    'gelu_forward',
    'gelu_gradients',
    'norm_gradients',
    'norm_rows',
    'project',
    'project_backward',
    'scans_backward',
    'scans_forward',
    'sum_rows',
]
