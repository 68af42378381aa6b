"""Operators that a backend has in one piece, and that keep nothing but their inputs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .backends import BACKENDS
from .operator import Operator, differentiate_from_inputs, like_inputs, operator, present

__all__ = ['backend_operator']


def backend_operator(
    name: str, function: str, fake: Callable[..., Any]
) -> tuple[Operator, Operator]:
    """Make a function of the backends an operator, which the function of its gradients goes with.

    Args:
        name: Of the operator, a key of :data:`.schemas.SCHEMAS`; its last argument is the backend's
            name.
        function: What backends call it, without ``_forward`` and ``_backward``.
        fake: Returns a tensor of the result's shape and dtype, from the same arguments.

    Returns:
        The operator, and the one that computes its gradients.
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
