"""The operators of ``triton_backend``, with the backward scan in CUDA C++."""

from functools import partial

from ..triton_backend import single, ssm
from .scan_backward import scans_backward

__all__ = ['scan_backward', 'ssm_backward']

scan_backward = partial(single.scan_backward, scans_backward=scans_backward)
ssm_backward = partial(ssm.ssm_backward, scans_backward=scans_backward)
