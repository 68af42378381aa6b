"""All operators of a GPU backend, composed of its kernels."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..directions import read_directions
from ..runtime.rehearsal import Gradients
from . import convs, corner_ssm, coupled, gelu, norms, single, ssm
from .kernels import Kernels

__all__ = ['COUPLED', 'OPERATORS', 'Operators']

NAMES = ('scan', 'conv', 'convs', 'ssm', 'corner_ssm', 'gate', 'gelu', 'norm', 'add_norm')
OPERATORS = tuple(f'{name}_{way}' for name in NAMES for way in ('forward', 'backward'))
"""Names of the operators in ``ops/backends``, which describes their arguments and results."""

COUPLED = ('coupled_scan_forward', 'coupled_scan_backward')
"""Names of further operators, for kernels that have the exact 2D recurrence."""

Run = Callable[..., Any]


def _as_they_are(function: Run, gradients: Gradients | None = None) -> Run:
    return function


class Operators:
    """The operators, as attributes with the names in :data:`OPERATORS` and :data:`COUPLED`.

    The latter exist only if the kernels have the exact 2D recurrence.

    Args:
        kernels: The kernels that operators launch.
        prepare: Function that takes an operator, and a function that runs its backward pass (None
            for a backward pass). It returns the operator in the form that runs, which may compile
            kernels beforehand and replay launches.
    """

    def __init__(self, kernels: Kernels, prepare: Callable[..., Run] = _as_they_are) -> None:
        def bind(function: Run) -> Run:
            return partial(function, kernels)

        scan_gradients = bind(single.scan_gradients)
        conv_backward = bind(single.conv_backward)
        convs_backward = bind(convs.convs_backward)
        ssm_backward = partial(_with_directions, ssm.ssm_backward, kernels, 2)
        corner_ssm_backward = bind(corner_ssm.corner_ssm_backward)
        gate_backward = kernels.gate_backward
        gelu_backward = bind(gelu.gelu_backward)
        norm_backward = bind(norms.norm_backward)
        add_norm_backward = bind(norms.add_norm_backward)

        self.scan_forward = prepare(bind(single.scan_forward), _gradients(scan_gradients))
        self.scan_backward = partial(_scan_backward, prepare(scan_gradients))
        self.conv_forward = prepare(bind(single.conv_forward), _gradients(conv_backward))
        self.conv_backward = prepare(conv_backward)
        self.convs_forward = prepare(bind(convs.convs_forward), _gradients(convs_backward))
        self.convs_backward = prepare(convs_backward)
        self.ssm_forward = prepare(
            partial(_with_directions, ssm.ssm_forward, kernels, 1), _gradients(ssm_backward)
        )
        self.ssm_backward = prepare(ssm_backward)
        self.corner_ssm_forward = prepare(
            bind(corner_ssm.corner_ssm_forward),
            partial(_corner_ssm_gradients, corner_ssm_backward),
        )
        self.corner_ssm_backward = prepare(corner_ssm_backward)
        self.gate_forward = prepare(kernels.gate_forward, partial(_gate_gradients, gate_backward))
        self.gate_backward = prepare(gate_backward)
        self.gelu_forward = prepare(kernels.gelu_forward, partial(_gelu_gradients, gelu_backward))
        self.gelu_backward = prepare(gelu_backward)
        self.norm_forward = prepare(bind(norms.norm_forward), _gradients(norm_backward))
        self.norm_backward = prepare(norm_backward)
        self.add_norm_forward = prepare(
            bind(norms.add_norm_forward), partial(_add_norm_gradients, add_norm_backward)
        )
        self.add_norm_backward = prepare(add_norm_backward)
        if hasattr(kernels, 'coupled_scans_forward'):
            gradients = bind(coupled.coupled_gradients)
            self.coupled_scan_forward = prepare(
                bind(coupled.coupled_scan_forward), _gradients(gradients)
            )
            self.coupled_scan_backward = partial(_scan_backward, prepare(gradients))


def _with_directions(function: Run, kernels: Kernels, place: int, *args: Any) -> Any:
    """Call a function, and convert the directions at ``place`` among the arguments from text."""
    return function(kernels, *args[:place], read_directions(args[place]), *args[place + 1 :])


def _scan_backward(gradients: Run, grad_y: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    return single.as_like(gradients(grad_y, *args), args)


# Rehearsals run backward passes by the functions below.


def _gradients(backward: Run) -> Gradients:
    """For an operator whose backward pass takes the gradient of its output, then its arguments."""

    def run(args: Sequence[Any], result: Any) -> None:
        y = result if isinstance(result, Tensor) else result[0]
        backward(torch.empty_like(y), *args)

    return run


def _corner_ssm_gradients(backward: Run, args: Sequence[Any], result: Any) -> None:
    x, gate, *others, trains = args
    if trains:
        kept = [t for t in result[1:] if t is not None]
        targets: tuple[Tensor | None, ...] = (None, None)
        if gate is not None:
            targets = x.new_empty((*x.shape[:-1], 2 * x.shape[-1])).chunk(2, -1)
        backward(torch.empty_like(result[0]), kept, x, gate, *others, targets)


def _gate_gradients(backward: Run, args: Sequence[Any], result: Any) -> None:
    x, z = args
    target = z.new_empty((*z.shape[:-1], 2 * z.shape[-1])).chunk(2, -1)[1]
    backward(torch.empty_like(result), x, z, target, True)


def _gelu_gradients(backward: Run, args: Sequence[Any], result: Any) -> None:
    x, bias = args
    rows = result.flatten(0, -2)
    backward(torch.empty_like(rows), x.flatten(0, -2), bias, torch.empty_like(rows))


def _add_norm_gradients(backward: Run, args: Sequence[Any], result: Any) -> None:
    _, _, *others = args
    for begins in (False, True):
        backward(*map(torch.empty_like, result), result[1], *others, begins)
