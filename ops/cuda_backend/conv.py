"""The convolutions in CUDA C++: their arguments, and their launches."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from ..directions import get_direction
from ..triton_backend import conv as triton_conv
from ..triton_backend.conv_gradients import (
    ConvGradients,
    Into,
    kernels_leave,
    leave_in,
    make_gradients,
)
from ..triton_backend.layout import token_layout
from ..triton_backend.projection_backward import Through
from .arguments import make_map
from .conv_arguments import ConvWalks, serves
from .conv_turns import Positions, plan_turns
from .launch import Launch, Launcher, address, launch, multiprocessors
from .through import Added

__all__ = ['convs_backward', 'convs_forward']

STEPS = 7
"""Tokens whose loads a thread has under way together in the forward kernel."""

FORWARD_WARPS_AT_ONCE = {False: 27, True: 36}
"""Warps of a multiprocessor among which the forward kernel shares out the lanes, without and with a
gate: as many as have registers enough, or more."""

STEPS_BACKWARD = 7
"""Tokens whose loads are under way together in the backward kernel, likewise."""

WARPS_AT_ONCE = {
    (False, 1): {2: 20, 1: 28},
    (False, 2): {2: 20, 1: 28},
    (True, 1): {4: 12, 2: 16, 1: 24},
    (True, 2): {2: 12, 1: 16},
}
"""Warps of a multiprocessor in the backward kernel, likewise, by how many channels a thread holds:
without and with a gate, and where walks serve one direction or two."""

HELD = (4, 2, 1)
"""Channels that a thread may hold in the forward kernel."""


class Gradients(ctypes.Structure):
    """``ConvGradients`` of the backward kernel."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('x', 'gate', 'weight', 'bias')),
        *((name, ctypes.c_int) for name in ('x_token', 'gate_token')),
    ]


def convs_forward(
    x: Tensor,
    gate: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    directions: Sequence[str],
    launch: Launcher = launch,
) -> Tensor:
    """See :func:`mmv2m.ops.triton_backend.conv.convs_forward`; huge images are its own."""
    if not serves(x):
        return triton_conv.convs_forward(x, gate, weight, bias, directions)
    walks = [get_direction(name) for name in directions]
    y = torch.empty((len(walks), *x.shape[-4:]), dtype=x.dtype, device=x.device)
    if not y.numel():
        return y
    call = ConvWalks(x, gate, weight, bias, holds=HELD)
    lanes = sum(call.lanes(walk.axis) for walk in walks)
    blocks = FORWARD_WARPS_AT_ONCE[gate is not None] // call.warps
    most = multiprocessors(x.device) * blocks // call.groups
    launch(
        Launch(
            'conv_forward.cu',
            call.compiled_for(STEPS, (y, call.grid.channels)),
            (max(1, min(lanes, most)), call.groups),
            32 * call.warps,
            0,
            (call.arguments(), ctypes.c_void_p(address(y)), make_map(call.grid, walks)),
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
    directions: Sequence[str],
    through: Through | None = None,
    into: Into | None = None,
    launch: Launcher = launch,
) -> ConvGradients:
    """See :func:`mmv2m.ops.triton_backend.conv.convs_backward`; huge images are its own.

    ``through`` is what ``grad_y`` gets through a projection of the outputs, to be added to it, if
    :func:`.through.adds_through`; or None.
    """
    if not serves(x):
        return triton_conv.convs_backward(grad_y, x, gate, weight, bias, directions, into)
    if into is not None and not kernels_leave(into, x, gate):
        inputs = (grad_y, x, gate, weight, bias, directions)
        return leave_in(into, convs_backward(*inputs, through, launch=launch))
    turns = plan_turns(directions, x.dim() == 4 or gate is not None) if grad_y.numel() else []
    warps = WARPS_AT_ONCE[gate is not None, max((turn.senses for turn in turns), default=1)]
    call = ConvWalks(x, gate, weight, bias, holds=warps)
    blocks = warps[call.held] // call.warps
    most = max(1, multiprocessors(x.device) * blocks // call.groups)
    rows = [min(sum(call.lanes(walk.axis) for walk in turn.walks), most) for turn in turns]
    grad_x, grad_gate = make_gradients(x, gate, into)
    grad_weight = weight.new_empty((sum(rows), *weight.shape))
    grad_bias = weight.new_empty((sum(rows), weight.shape[0]))
    grad_y = grad_y.contiguous()
    left = [(None, 0) if t is None else (t, token_layout(t)[1]) for t in (grad_x, grad_gate)]
    added = Added(through)
    for i, turn in enumerate(turns):
        first, last = sum(rows[:i]), sum(rows[: i + 1])
        parts = (grad_weight[first:last], grad_bias[first:last])
        how = dict(
            SENSES=turn.senses,
            SHARED_X=x.dim() == 4,
            BLOCKS=blocks,
            COLUMNS=added.columns,
        )
        launch(
            Launch(
                'conv_backward.cu',
                call.compiled_for(STEPS_BACKWARD, (grad_y, call.grid.channels), *left, **how),
                (rows[i], call.groups),
                32 * call.warps,
                added.shared_bytes(call),
                (
                    call.arguments(),
                    ctypes.c_void_p(address(grad_y)),
                    added.arguments,
                    Gradients(
                        *map(address, (grad_x, grad_gate, *parts)), *(token for _, token in left)
                    ),
                    make_map(call.grid, turn.walks),
                    Positions(*turn.positions, i > 0, i > 0 or (into is not None and into.adds)),
                ),
            ),
            x.device,
        )
    return grad_x, grad_gate, grad_weight, None if bias is None else grad_bias
