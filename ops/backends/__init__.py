"""The implementations of the operators, and the choice of the one that runs.

A backend is a module that defines some of the following names. Every backend has

``DEVICES``
    Types of devices on which ``'auto'`` may choose it; None for all.
``refusal(x)``
    Returns why it cannot run on an input ``x``, or None if it can.
``scan_forward(x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction)``
    Returns ``y``. ``scan_backward(grad_y, *the same)`` returns the gradients of the tensors among
    the arguments, or None for arguments that are None.
``conv_forward(x, weight, bias, direction)``
    Returns ``y``. ``conv_backward(grad_y, *the same)`` returns the gradients.

A backend may have more functions. With them, it runs an operator in one piece that is otherwise
composed of other operators. The backward functions return gradients in the order of the tensors.

``convs_forward(x, weight, bias, directions)``, ``convs_backward(grad_y, *the same)``
    See :mod:`..directional_conv`; directions as text.
``ssm_forward(tensors, directions, projects, reduction, log_A)``, ``ssm_backward(grad_y, ...)``
    See :mod:`.gpu.ssm`; directions as text.
``corner_ssm_forward(x, gate, parameters, corners, reduction, log_A, trains)``,
``corner_ssm_backward(grad_y, kept, x, gate, parameters, corners, reduction, log_A, targets)``
    See :mod:`.gpu.corner_ssm`.
``coupled_scan_forward(x, delta, A, weight, B, C, D, delta_bias, delta_softplus, corners)``,
``coupled_scan_backward(grad_y, *the same)``
    See :mod:`..coupled_scan`; corners as text. Without them, a backend has no such operator. With
    ``convs_*`` too, it runs :mod:`..coupled_ssm` in one piece.
``gate_forward(x, z)``, ``gate_backward(grad_y, x, z, target, again)``
    ``x * silu(z)``. The gradient of ``z`` is written to ``target`` if there is one, and the gated
    map is returned too if ``again`` is set.
``gelu_forward(x, bias)``, ``gelu_backward(grad_y, x, bias, grad_out)``
    See :mod:`.gpu.gelu`.
``norm_forward(x, weight, bias, offset, eps)``, ``norm_backward(grad_y, *the same)``,
``add_norm_forward(branch, residual, weight, bias, factor, eps)``,
``add_norm_backward(grad_normed, grad_sum, sum, weight, bias, factor, eps, begins)``
    See :mod:`.gpu.norms`.

To add a backend, see docs/guides/add_a_backend.md.
"""

import logging
from typing import Any

import torch
from torch import Tensor

from . import cpu, cuda, mamba_ssm, reference, triton

__all__ = ['BACKENDS', 'can_run', 'choose_backend', 'has']

BACKENDS: dict[str, Any] = {
    'cuda': cuda,
    'triton': triton,
    'mamba_ssm': mamba_ssm,
    'cpu': cpu,
    'reference': reference,
}
"""The backends by name, fastest first. ``'auto'`` tries them in this order."""


@torch.compiler.assume_constant_result
def has(backend: str, *names: str) -> bool:
    """Whether a backend has all functions with the given names."""
    return all(hasattr(BACKENDS[backend], name) for name in names)


def can_run(backend: str, x: Tensor, raise_error: bool = False) -> bool:
    """Whether a backend runs on an input.

    Args:
        backend: A key of :data:`BACKENDS`.
        x: The operator's input map.
        raise_error: Whether to raise an error instead of returning False.

    Raises:
        ValueError: If there is no such backend.
        RuntimeError: If it cannot run on ``x`` and ``raise_error`` is set. The message says why.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f'backend must be one of {", ".join(["auto", *BACKENDS])}, but got {backend!r}'
        )
    reason = BACKENDS[backend].refusal(x)
    if reason is not None and raise_error:
        raise RuntimeError(f'backend {backend!r} cannot run here: {reason}')
    return reason is None


def choose_backend(backend: str, x: Tensor, *functions: str) -> str:
    """Choose the backend that will run on ``x``, and return its name.

    If a faster backend for this device is passed over, the reason is logged once. In
    :func:`torch.onnx.export`, the reference is chosen, whatever is asked for, because an ONNX graph
    has no backends, and the reference fuses nothing.

    Args:
        backend: ``'auto'`` for the first backend that can run, or a key of :data:`BACKENDS`.
        x: The operator's input map.
        functions: Functions that the backend must have, if not every backend has them.

    Raises:
        ValueError: If there is no such backend.
        RuntimeError: If a backend is asked for by name, but cannot run on ``x`` or lacks a
            function. The message says why.
    """
    if torch.compiler.is_compiling() and _exports_to_onnx():
        return 'reference'
    if backend != 'auto':
        can_run(backend, x, raise_error=True)
        if not has(backend, *functions):
            able = [name for name in BACKENDS if has(name, *functions)]
            raise RuntimeError(
                f'backend {backend!r} has no {functions[0]}; these have it: {", ".join(able)}'
            )
        return backend
    reasons: list[str] = []
    for name, candidate in BACKENDS.items():
        if candidate.DEVICES is not None and x.device.type not in candidate.DEVICES:
            continue
        reason = candidate.refusal(x)
        if reason is None and not has(name, *functions):
            reason = f'it has no {functions[0]}'
        if reason is None:
            if not x.is_meta:  # shapes alone are never slow
                _tell_fallback(name, tuple(reasons))
            return name
        reasons.append(f'{name}: {reason}')
    raise RuntimeError(f'no backend can run here: {"; ".join(reasons)}')


@torch.compiler.assume_constant_result
def _exports_to_onnx() -> bool:
    return torch.onnx.is_in_onnx_export()


def _tell_fallback(backend: str, reasons: tuple[str, ...]) -> None:
    """Log once that a faster backend was passed over, and why."""
    if reasons and not torch.compiler.is_compiling() and (backend, reasons) not in _TOLD:
        _TOLD.add((backend, reasons))
        logging.getLogger('mmv2m').warning(
            'the scans run on the slower backend %r (%s)', backend, '; '.join(reasons)
        )


_TOLD: set[tuple[str, tuple[str, ...]]] = set()
