"""What operators of models launch, found out without memory: shapes alone tell that."""

from functools import partial

import torch
from triton.runtime.interpreter import InterpretedFunction

from mmv2m.ops import cuda, triton
from mmv2m.ops.gpu.kernels import Kernels
from mmv2m.ops.gpu.operators import Operators
from mmv2m.ops.runtime import rehearsal
from mmv2m.ops.runtime.watch import rehearsing

InterpretedFunction.params = ()  # which a rehearsal asks for

CORNERS = 'right-down,left-up,down-left,up-right'
OPPOSITE = 'right-down,left-up;down-right,up-left'

KERNELS = Kernels(cuda, triton)

CUDA = Operators(KERNELS, lambda function, gradients=None: (function, gradients))
"""Each operator, and what runs its gradients."""

new = partial(torch.empty, device='meta')
half = partial(new, dtype=torch.bfloat16)


def parameters(channels, rank, states, sides=1):
    taps = (new(channels, 1, 4), new(channels))
    projections = (new(rank + sides * states, channels), new(channels, rank), new(channels))
    return [*taps, *projections, new(channels, states), new(channels)]


class Operator:
    """An operator with its gradients, as a model calls it."""

    def __init__(self, function, gradients, arguments):
        self.function, self.gradients, self.arguments = function, gradients, arguments

    def rehearse(self, sizes=(2, 14, 14)):
        calls = []
        given = (self.function, self.gradients, self.arguments(sizes), torch.device('cpu'))
        rehearsal.rehearse(*given, calls.append)
        return calls

    def launches(self, sizes):
        """All of them, for images, and rows and columns of tokens."""
        calls, given = [], self.arguments(sizes)
        with rehearsing(calls.append):
            self.gradients(given, self.function(*given))
        return calls


def corner_ssm_of(channels, rank, states=1, gated=False, corners=OPPOSITE):
    """The mixer of a V2M, between its projections."""

    def arguments(sizes):
        inner, gate = half(*sizes, channels), None
        if gated:
            inner, gate = half(*sizes, 2 * channels).chunk(2, -1)
        halves = parameters(channels, rank, states) * 2 * (corners.count(';') + 1)
        return [inner, gate, halves, corners, 'sum', True, True]

    return Operator(*CUDA.corner_ssm_forward, arguments)


def ssm_of(channels, rank):
    """Two of VMamba's scans, along one axis."""

    def arguments(sizes):
        _, _, *others = parameters(channels, rank, 1, sides=2)
        tensors = [half(*sizes, channels), None, None, None, *others]
        return [tensors, 'right,left', 'both', 'sum', True]

    return Operator(*CUDA.ssm_forward, arguments)


def convs_of(channels, separate):
    """Of four corners, along their first directions or their second ones."""

    def arguments(sizes):
        x = half(4, *sizes, channels) if separate else half(*sizes, 2 * channels)[..., :channels]
        directions = 'down,up,left,right' if separate else 'right,left,down,up'
        return [x, new(channels, 4), new(channels), directions]

    return Operator(*CUDA.convs_forward, arguments)


def coupled_scan_of(channels, states=16):
    """The exact 2D recurrence from four corners; its B and C are parts of one product."""

    def arguments(sizes):
        maps = (4, *sizes)
        sides = half(*maps, 24 + 4 * states)[..., 24:].unflatten(-1, (2, 2, states)).unbind(-3)
        parameters = (new(2, 2, channels, states), new(2, 2, channels))
        shifts = (new(channels), new(2, channels))
        tensors = (half(*maps, channels), half(2, *maps, channels), *parameters, *sides, *shifts)
        return [*tensors, True, CORNERS.replace(';', ',')]

    return Operator(*CUDA.coupled_scan_forward, arguments)


def gate_of(channels):
    """Behind the sum over the corners."""

    def arguments(sizes):
        return [half(*sizes, channels), half(*sizes, 2 * channels)[..., channels:]]

    return Operator(*CUDA.gate_forward, arguments)


def gelu_of(channels):
    return Operator(*CUDA.gelu_forward, lambda sizes: [half(*sizes, channels), new(channels)])


def norm_of(channels, bias=True, offset=False, make=half):
    def arguments(sizes):
        shifts = (new(channels) if there else None for there in (bias, offset))
        return [make(*sizes, channels), new(channels), *shifts, 1e-5]

    return Operator(*CUDA.norm_forward, arguments)


def add_norm_of(channels, bias=True):
    def arguments(sizes):
        maps = half(*sizes, channels), new(*sizes, channels)
        return [*maps, new(channels), new(channels) if bias else None, None, 1e-5]

    return Operator(*CUDA.add_norm_forward, arguments)


def plain(embed_dims):
    """V2M-T or V2M-S."""
    mixer = corner_ssm_of(2 * embed_dims, embed_dims // 16, 16, True, CORNERS)
    return [mixer, gate_of(2 * embed_dims), add_norm_of(embed_dims, bias=False)]


def hierarchical(mixer_of, expand=1):
    """Four stages whose widths double, from 96 on; with what is around their mixers."""
    widths = [96, 192, 384, 768]
    mixers = [mixer_of(expand * width, width // 16) for width in widths]
    norms = [
        kind
        for width in widths
        for kind in (norm_of(width), norm_of(width, offset=True), add_norm_of(width))
    ]
    return [*mixers, *norms, norm_of(expand * 768), norm_of(768, make=new), gelu_of(4 * 96)]


MODELS = {
    'V2M-T': plain(192),
    'V2M-T, coupled': [convs_of(384, False), convs_of(384, True), coupled_scan_of(384)],
    'V2M-S': plain(384),
    'V2M-S*': hierarchical(corner_ssm_of),
    'V2M-B*': hierarchical(corner_ssm_of, expand=2),
    'VMamba-T': hierarchical(ssm_of),
}
