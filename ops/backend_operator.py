"""Operators that are one function of a backend, and that keep only their inputs for gradients."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .backends import BACKENDS
from .operator import Operator, differentiate_from_inputs, like_inputs, operator, present

__all__ = ['backend_operator']


def backend_operator(
    name: str, function: str, fake: Callable[..., Any]
) -> tuple[Operator, Operator]:
    """Make an operator of a function that backends have, together with its gradients.

    Args:
        name: Name of the operator, a key of :data:`.schemas.SCHEMAS`. The operator's last argument
            is the name of the backend.
        function: Name of the backends' function, without ``_forward`` and ``_backward``.
        fake: Function of the same arguments that returns an empty tensor of the result's shape and
            dtype.

    Returns:
        The operator, and the operator that computes its gradients.
    """
    forward_name, backward_name = f'{function}_forward', f'{function}_backward'

    @operator(name, fake)
    def forward(*args: Any) -> Tensor:
        *inputs, backend = args
        y: Tensor = getattr(BACKENDS[backend], forward_name)(*inputs)
        return y.contiguous()

    @operator(f'{name}_backward', like_inputs)
    def backward(grad_y: Tensor, *args: Any) -> list[Tensor]:
        *inputs, backend = args
        return present(getattr(BACKENDS[backend], backward_name)(grad_y, *inputs))

    differentiate_from_inputs(forward, backward)
    return forward, backward
