"""Which implementations of the operators exist, and which one runs.

To add a backend: write its kernels in a file of their own, describe it by a :class:`Backend` and
put it into :data:`BACKENDS`, before the slower ones. Nothing else changes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from . import reference_kernels

__all__ = ['BACKENDS', 'Backend', 'can_run', 'choose_backend']


@dataclass(frozen=True)
class Backend:
    """One implementation of the operators.

    Attributes:
        refusal: Given the input ``x``, says why this backend cannot run on it, or None if it can.
        scan_forward: ``(x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction) -> y``.
        scan_backward: ``(grad_y, *the same) -> gradients`` of the tensors among them, None for
            those that are None.
        conv_forward: ``(x, weight, bias, direction) -> y``.
        conv_backward: ``(grad_y, *the same) -> gradients``, likewise.
    """

    refusal: Callable[[Tensor], str | None]
    scan_forward: Callable[..., Tensor]
    scan_backward: Callable[..., tuple[Tensor | None, ...]]
    conv_forward: Callable[..., Tensor]
    conv_backward: Callable[..., tuple[Tensor | None, ...]]


BACKENDS: dict[str, Backend] = {
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

    Raises:
        ValueError: If there is no such backend.
        RuntimeError: If the one asked for by name cannot run on ``x``; says why.
    """
    if backend == 'auto':
        return next(name for name in BACKENDS if can_run(name, x))
    can_run(backend, x, raise_error=True)
    return backend
