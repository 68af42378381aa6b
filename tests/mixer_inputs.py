"""Inputs of the 2D SSM and of the mixer with it, which several tests share."""

import torch
from kernel_comparison import SSM_PARAMETERS
from scan_inputs import make_ssm_inputs

from mmv2m.ops import Halves, ScanNorm, ss2d

WAYS = (
    (['right', 'left', 'up'], ['down', 'up', 'left']),
    (['down', 'up'], ['right', 'left']),
)


def halves_of(parameters, *numbers):
    """The parameters of halves, whose numbers stand behind the names, as ``Halves`` takes them."""
    return [[parameters.get(f'{name}_{i}') for name in SSM_PARAMETERS] for i in numbers]


def groups_of(parameters):
    """One, of the halves 1 and 2, or two, of 3 and 4 too."""
    number = 2 if 'A_3' in parameters else 1
    return [Halves(*halves_of(parameters, 2 * i + 1, 2 * i + 2), *WAYS[i]) for i in range(number)]


def make_2d_inputs(conv=True, dtype=torch.float32, states=4, groups=1, gated=True, grid=(1, 2, 3)):
    """x, gate, and both halves' parameters of each group."""
    tensors = {}
    for half in range(1, 2 * groups + 1):
        projects = 'input' if half % 2 else 'output'
        own = make_ssm_inputs(grid, projects=projects, dtype=dtype, states=states)
        own['A'] = (-own['A']).log()
        tensors |= dict(x=own.pop('x'), gate=own.pop('gate') if gated else None)
        own.pop('gate', None)
        tensors |= {f'{name}_{half}': value + half / 20 for name, value in own.items()}
        if not conv:
            tensors |= {'gate': None, f'conv_weight_{half}': None, f'conv_bias_{half}': None}
    return tensors


def make_mixer_inputs(gated=True, **settings):
    """Those, and two weights and, without a gate, what a norm has."""
    inputs = make_2d_inputs(gated=gated, **settings)
    inner, generator = inputs['x'].shape[-1], torch.Generator().manual_seed(3)
    shapes = dict(x=(*inputs['x'].shape[:3], 5), in_weight=((1 + gated) * inner, 5))
    shapes |= dict(out_weight=(4, inner))
    if not gated:
        shapes |= dict(norm_weight=(inner,), norm_bias=(inner,))
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return inputs | made | dict(x=made['x'].to(inputs['x'].dtype))


def mix(x, gate, in_weight, out_weight, norm_weight=None, norm_bias=None, **others):
    """``ss2d`` with the halves' parameters told apart by their names."""
    backend = others.pop('backend', 'triton')
    norm = None if norm_weight is None else ScanNorm(norm_weight, norm_bias)
    groups = groups_of(others)
    return ss2d(x, in_weight / 3, out_weight / 3, groups, norm, backend, log_A=True)
