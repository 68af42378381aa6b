"""Which implementations of the operators exist, and which one runs.

To add a backend: write its kernels in a file of their own, describe it by a :class:`Backend` and
put it into :data:`BACKENDS`, before the slower ones. Nothing else changes.
"""

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from . import mamba_ssm_backend, reference_kernels

__all__ = ['BACKENDS', 'Backend', 'can_run', 'choose_backend']


HAS_NVRTC = importlib.util.find_spec('cuda') is not None and (
    importlib.util.find_spec('cuda.bindings') is not None
)
HAS_TRITON = importlib.util.find_spec('triton') is not None
HAS_MAMBA_SSM = importlib.util.find_spec('mamba_ssm') is not None
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
"""Triton's own switch, which it reads once too."""


@dataclass(frozen=True)
class Backend:
    """One implementation of the operators.

    Attributes:
        refusal: Given the input ``x``, says why this backend cannot run on it, or None if it can.
        devices: Types of devices on which ``'auto'`` may take it; None for all.
        scan_forward: ``(x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction) -> y``.
        scan_backward: ``(grad_y, *the same) -> gradients`` of the tensors among them, None for
            those that are None.
        conv_forward: ``(x, weight, bias, direction) -> y``.
        conv_backward: ``(grad_y, *the same) -> gradients``, likewise.
        ssm_forward: ``((x, gate, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D),
            directions, projects, reduction, log_A) -> (y,)``, like
            :func:`.triton_backend.ssm.ssm_forward`; None for a backend that does not fuse it.
        ssm_backward: ``(grad_y, tensors, directions, projects, reduction, log_A) -> gradients`` of
            the nine tensors, like :func:`.triton_backend.ssm.ssm_backward`.
        ssm_2d_forward: ``(x, gate, parameters, first, second, reduction, log_A, trains) ->
            (y, *kept)``, like :func:`.triton_backend.ssm_2d.ssm_2d_forward`; None as before.
        ssm_2d_backward: ``(grad_y, kept, x, gate, parameters, first, second, reduction, log_A,
            into) -> gradients``, like :func:`.triton_backend.ssm_2d.ssm_2d_backward`.
        gate_forward: ``(x, z) -> x * silu(z)``; None as before.
        gate_backward: ``(grad_y, x, z, into, again) -> (*gradients, x * silu(z))``, like
            :func:`.triton_backend.gate.gate_backward`.
        gelu_forward: ``(x, bias) -> GELU(x + bias)``; None as before.
        gelu_backward: ``(grad_y, x, bias, grad_out) -> (GELU(x + bias), gradient of bias, sum of
            grad_out over its rows)``; overwrites ``grad_y`` with the gradient of ``x``.
        norm_forward: ``(x, weight, bias, offset, eps) -> y``; None as before.
        norm_backward: ``(grad_y, *the same) -> gradients`` of the four tensors, likewise.
        add_norm_forward: ``(branch, residual, weight, bias, factor, eps) -> (normed, sum)``; None
            as before.
        add_norm_backward: ``(grad_normed, grad_sum, sum, weight, bias, factor, eps, begins) ->
            gradients`` of branch, residual, weight and bias; if the stream begins with the
            residual, that has the dtype of the branch.
    """

    refusal: Callable[[Tensor], str | None]
    scan_forward: Callable[..., Tensor]
    scan_backward: Callable[..., tuple[Tensor | None, ...]]
    conv_forward: Callable[..., Tensor]
    conv_backward: Callable[..., tuple[Tensor | None, ...]]
    ssm_forward: Callable[..., tuple[Any, ...]] | None = None
    ssm_backward: Callable[..., tuple[Tensor | None, ...]] | None = None
    ssm_2d_forward: Callable[..., tuple[Tensor, ...]] | None = None
    ssm_2d_backward: Callable[..., tuple[Tensor | None, ...]] | None = None
    gate_forward: Callable[..., Tensor] | None = None
    gate_backward: Callable[..., tuple[Tensor, Tensor | None, Tensor | None]] | None = None
    gelu_forward: Callable[..., Tensor] | None = None
    gelu_backward: Callable[..., tuple[Tensor, Tensor | None, Tensor | None]] | None = None
    norm_forward: Callable[..., Tensor] | None = None
    norm_backward: Callable[..., tuple[Tensor | None, ...]] | None = None
    add_norm_forward: Callable[..., tuple[Tensor, Tensor]] | None = None
    add_norm_backward: Callable[..., tuple[Tensor | None, ...]] | None = None
    devices: tuple[str, ...] | None = None


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@torch.compiler.assume_constant_result  # instead of tracing it, and warning of the cache
def _is_recent(device: torch.device) -> bool:
    return _capability(device) >= (8, 0)


def cuda_refusal(x: Tensor) -> str | None:
    """Why the CUDA C++ kernels, and the Triton kernels beside them, cannot run on ``x``."""
    if INTERPRETED or x.device.type != 'cuda' or torch.version.hip is not None:
        return f'the input is on {x.device}, but its kernels need an NVIDIA GPU'
    reason = triton_refusal(x)
    if reason is not None:
        return reason
    if not HAS_NVRTC:
        return 'cuda-bindings is not installed: pip install cuda-bindings'
    if not _is_recent(x.device):
        return 'its kernels need compute capability 8.0'
    return None


def triton_refusal(x: Tensor) -> str | None:
    """Why the Triton kernels cannot run on ``x``."""
    if not HAS_TRITON:
        return 'Triton is not installed: pip install triton'
    if x.dtype == torch.float64:
        return 'its kernels have no float64; cast the input, or use the reference'
    if x.device.type != 'cuda' and not INTERPRETED:
        return f'the input is on {x.device}, but its kernels need a GPU (or TRITON_INTERPRET=1)'
    return None


def mamba_ssm_refusal(x: Tensor) -> str | None:
    """Why mamba_ssm's scan cannot run on ``x``."""
    if not HAS_MAMBA_SSM:
        return 'mamba_ssm is not installed: pip install mamba-ssm'
    if x.dtype == torch.float64:
        return 'its scan has no float64; cast the input, or use the reference'
    if x.device.type != 'cuda':
        return f'the input is on {x.device}, but its scan needs a GPU'
    if x.numel() == 0:
        return 'its scan takes no empty maps'
    return None


def _late(module: str, name: str) -> Callable[..., Any]:
    """A function of a module here, imported when it runs: what it needs is optional."""

    @cache
    def find() -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(
            importlib.import_module(f'.{module}', __package__), name
        )
        return found

    return lambda *args: find()(*args)


TRITON = Backend(
    refusal=triton_refusal,
    scan_forward=_late('triton_backend.single', 'scan_forward'),
    scan_backward=_late('triton_backend.single', 'scan_backward'),
    conv_forward=_late('triton_backend.single', 'conv_forward'),
    conv_backward=_late('triton_backend.single', 'conv_backward'),
    ssm_forward=_late('triton_backend.ssm', 'ssm_forward'),
    ssm_backward=_late('triton_backend.ssm', 'ssm_backward'),
    ssm_2d_forward=_late('triton_backend.ssm_2d', 'ssm_2d_forward'),
    ssm_2d_backward=_late('triton_backend.ssm_2d', 'ssm_2d_backward'),
    gate_forward=_late('triton_backend.gate', 'gate_forward'),
    gate_backward=_late('triton_backend.gate', 'gate_backward'),
    gelu_forward=_late('triton_backend.gelu', 'gelu_forward'),
    gelu_backward=_late('triton_backend.gelu', 'gelu_backward'),
    norm_forward=_late('triton_backend.norm', 'norm_forward'),
    norm_backward=_late('triton_backend.norm', 'norm_backward'),
    add_norm_forward=_late('triton_backend.norm', 'add_norm_forward'),
    add_norm_backward=_late('triton_backend.norm', 'add_norm_backward'),
    devices=('cuda',),  # Triton's interpreter, which runs on the CPU, is for checks
)


BACKENDS: dict[str, Backend] = {
    'cuda': replace(
        TRITON,
        refusal=cuda_refusal,
        scan_forward=_late('cuda_backend.operators', 'scan_forward'),
        scan_backward=_late('cuda_backend.operators', 'scan_backward'),
        conv_forward=_late('cuda_backend.operators', 'conv_forward'),
        conv_backward=_late('cuda_backend.operators', 'conv_backward'),
        ssm_forward=_late('cuda_backend.operators', 'ssm_forward'),
        ssm_backward=_late('cuda_backend.operators', 'ssm_backward'),
        ssm_2d_forward=_late('cuda_backend.operators', 'ssm_2d_forward'),
        ssm_2d_backward=_late('cuda_backend.operators', 'ssm_2d_backward'),
        gate_forward=_late('cuda_backend.operators', 'gate_forward'),
        gate_backward=_late('cuda_backend.operators', 'gate_backward'),
        gelu_forward=_late('cuda_backend.operators', 'gelu_forward'),
        gelu_backward=_late('cuda_backend.operators', 'gelu_backward'),
        norm_forward=_late('cuda_backend.operators', 'norm_forward'),
        norm_backward=_late('cuda_backend.operators', 'norm_backward'),
        add_norm_forward=_late('cuda_backend.operators', 'add_norm_forward'),
        add_norm_backward=_late('cuda_backend.operators', 'add_norm_backward'),
    ),
    'triton': TRITON,
    'mamba_ssm': Backend(
        refusal=mamba_ssm_refusal,
        scan_forward=mamba_ssm_backend.scan_forward,
        scan_backward=mamba_ssm_backend.scan_backward,
        conv_forward=reference_kernels.conv_forward,
        conv_backward=reference_kernels.conv_backward,
    ),
    'reference': Backend(
        refusal=lambda x: None,
        scan_forward=reference_kernels.scan_forward,
        scan_backward=reference_kernels.scan_backward,
        conv_forward=reference_kernels.conv_forward,
        conv_backward=reference_kernels.conv_backward,
    ),
}
"""The backends by name, fastest first: the order in which ``'auto'`` tries them."""


def can_run(backend: str, x: Tensor, raise_error: bool = False) -> bool:
    """Whether a backend runs on an input.

    Args:
        backend: A key of :data:`BACKENDS`.
        x: The operator's input map.
        raise_error: Raise instead of returning False.

    Raises:
        ValueError: If there is no such backend.
        RuntimeError: If it cannot run on ``x`` and ``raise_error`` is set; says why.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f'backend must be one of {", ".join(["auto", *BACKENDS])}, but got {backend!r}'
        )
    reason = BACKENDS[backend].refusal(x)
    if reason is not None and raise_error:
        raise RuntimeError(f'backend {backend!r} cannot run here: {reason}')
    return reason is None


def choose_backend(backend: str, x: Tensor) -> str:
    """The name of the backend that will run on ``x``.

    Args:
        backend: ``'auto'`` for the first that can, or a key of :data:`BACKENDS`.
        x: The operator's input map.

    Passing over a faster backend is logged, once for each reason.

    Raises:
        ValueError: If there is no such backend.
        RuntimeError: If the one asked for by name cannot run on ``x``; says why.
    """
    if backend != 'auto':
        can_run(backend, x, raise_error=True)
        return backend
    reasons: list[str] = []
    for name, candidate in BACKENDS.items():
        suits = candidate.devices is None or x.device.type in candidate.devices
        reason = candidate.refusal(x) if suits else f'it is not meant for {x.device.type}'
        if reason is None:
            if not x.is_meta:  # shapes alone are never slow
                _tell_fallback(name, tuple(reasons))
            return name
        reasons.append(f'{name}: {reason}')
    raise RuntimeError(f'no backend can run here: {"; ".join(reasons)}')


def _tell_fallback(backend: str, reasons: tuple[str, ...]) -> None:
    """Log once that a faster backend was passed over, and why."""
    if reasons and not torch.compiler.is_compiling() and (backend, reasons) not in _TOLD:
        _TOLD.add((backend, reasons))
        logging.getLogger('mmv2m').warning(
            'the scans run on the slower backend %r (%s)', backend, '; '.join(reasons)
        )


_TOLD: set[tuple[str, tuple[str, ...]]] = set()
