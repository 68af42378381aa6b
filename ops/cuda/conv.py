"""The convolutions in CUDA C++: their arguments, and their launches."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..directions import Direction
from ..gpu.conv_targets import NEW, ConvGradients, ConvTargets
from ..gpu.maps import token_layout
from ..gpu.projections import ProjectedGradient
from ..runtime.launch import Launch, address, launch, multiprocessors
from .arguments import MOST_WARPS, make_map
from .conv_arguments import ConvWalks, takes_conv
from .conv_passes import Positions, plan_passes
from .projected_gradient import AddedGradient

__all__ = ['convs_backward', 'convs_forward']

STEPS = 7
"""Tokens that a thread of the forward kernel loads at the same time."""

FORWARD_WARPS_AT_ONCE = {False: 27, True: 36}
"""Warps per multiprocessor over which the forward kernel distributes the lanes, by whether there is
a gate. They are at least as many as the registers allow.
"""

STEPS_BACKWARD = 7
"""Tokens that a thread of the backward kernel loads at the same time."""

WARPS_AT_ONCE = {
    (False, 1): {2: 20, 1: 28},
    (False, 2): {2: 20, 1: 28},
    (True, 1): {4: 12, 2: 16, 1: 24},
    (True, 2): {2: 12, 1: 16},
}
"""Warps per multiprocessor in the backward kernel, by the number of channels that a thread holds.

The keys say whether there is a gate, and whether a walk serves one direction or two.
"""

HELD, SLACK = (4, 2, 1), 1.2
"""Channels that a thread of the forward kernel may hold, and the slack in favour of the first one.

The first number is chosen if it costs at most a fifth more instructions than the best one. The
kernel waits for memory anyway, and this way, stages share one kernel.
"""


class Gradients(ctypes.Structure):
    """The structure ``ConvGradients`` of the backward kernel."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('x', 'gate', 'weight', 'bias')),
        *((name, ctypes.c_int) for name in ('x_token', 'gate_token')),
    ]


def convs_forward(
    x: Tensor,
    gate: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    directions: Sequence[Direction],
) -> Tensor:
    """See :class:`mmv2m.ops.gpu.kernels.Kernels`; images with 32-bit offsets only."""
    if not takes_conv(x):
        return NotImplemented
    y = torch.empty((len(directions), *x.shape[-4:]), dtype=x.dtype, device=x.device)
    if not y.numel():
        return y
    call = ConvWalks(x, gate, weight, bias, holds=HELD, slack=SLACK)
    lanes = sum(call.grid.lanes(walk.axis) for walk in directions)
    blocks = FORWARD_WARPS_AT_ONCE[gate is not None] // call.warps
    most = multiprocessors(x.device) * blocks // call.groups
    launch(
        Launch(
            'conv_forward.cu',
            call.compiled_for(STEPS, (y, call.grid.channels), idle_leave=True),
            (max(1, min(lanes, most)), call.groups),
            32 * call.warps,
            0,
            (call.arguments(), ctypes.c_void_p(address(y)), make_map(call.grid, directions)),
        ),
        x.device,
    )
    return y


def convs_backward(
    grad_y: Tensor,
    x: Tensor,
    gate: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    directions: Sequence[Direction],
    targets: ConvTargets = NEW,
    projected: ProjectedGradient | None = None,
) -> ConvGradients:
    """See :meth:`mmv2m.ops.gpu.kernels.Kernels.convs_backward`; images with 32-bit offsets only.

    ``projected`` is the part of the outputs' gradient that comes from a projection, and is added to
    ``grad_y``. It may be given if :func:`.projected_gradient.adds_projected_gradient` is True.
    """
    if not takes_conv(x):
        return NotImplemented
    shared = x.dim() == 4 or gate is not None
    passes = plan_passes(directions, shared) if grad_y.numel() else []
    warps = WARPS_AT_ONCE[gate is not None, max((one.senses for one in passes), default=1)]
    call = ConvWalks(x, gate, weight, bias, holds=warps)
    blocks = warps[call.held] // call.warps
    most = max(1, multiprocessors(x.device) * blocks // call.groups)
    rows = [min(sum(call.grid.lanes(walk.axis) for walk in one.walks), most) for one in passes]
    grad_x, grad_gate = targets.allocate(x, gate)
    grad_weight = weight.new_empty((sum(rows), *weight.shape))
    grad_bias = weight.new_empty((sum(rows), weight.shape[0]))
    grad_y = grad_y.contiguous()
    left = [(None, 0) if t is None else (t, token_layout(t)[1]) for t in (grad_x, grad_gate)]
    added = AddedGradient(projected, call)
    for i, one in enumerate(passes):
        first, last = sum(rows[:i]), sum(rows[: i + 1])
        parts = (grad_weight[first:last], grad_bias[first:last])
        how: dict[str, Any] = dict(
            SENSES=one.senses,
            SHARED_X=x.dim() == 4,
            BLOCKS=warps[call.held] // MOST_WARPS,
            COLUMNS=added.columns,
        )
        launch(
            Launch(
                'conv_backward.cu',
                call.compiled_for(STEPS_BACKWARD, (grad_y, call.grid.channels), *left, **how),
                (rows[i], call.groups),
                32 * call.warps,
                added.shared_bytes(),
                (
                    call.arguments(),
                    ctypes.c_void_p(address(grad_y)),
                    added.arguments,
                    Gradients(
                        *map(address, (grad_x, grad_gate, *parts)), *(token for _, token in left)
                    ),
                    make_map(call.grid, one.walks),
                    Positions(*one.positions, i > 0, i > 0 or targets.adds),
                ),
            ),
            x.device,
        )
    return grad_x, grad_gate, grad_weight, None if bias is None else grad_bias
