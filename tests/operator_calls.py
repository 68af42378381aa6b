"""A small call of every public operator, which several tests share."""

from functools import partial

import pytest
import torch
from cuda_emulation import ON_GPU
from scan_inputs import make_coupled_ssm_inputs, make_inputs, make_ssm_inputs, nest_coupled_ssm

from mmv2m.ops import (
    Halves,
    ScanNorm,
    add_norm,
    channel_norm,
    choose_backend,
    corner_ssm,
    coupled_ssm,
    directional_conv,
    directional_scan,
    directional_ssm,
    gated_linear,
    mlp,
    ss2d,
)

GRID, CHANNELS, RANK, STATES = (1, 2, 2), 4, 2, 2
HALF = dict(grid=GRID, channels=CHANNELS, rank=RANK, states=STATES)


def operator_calls(dtype):
    """For each name of an operator its calls: a function of tensors and a backend, and tensors."""
    scan = [*make_inputs((*GRID, CHANNELS), STATES, dtype).values()][:-1]
    lone_scan = [t for t in scan[:5] if t is not None]
    ssm = [*make_ssm_inputs(**HALF, dtype=dtype).values()]
    x, gate = _draw(*GRID, 2 * CHANNELS, dtype=dtype).chunk(2, -1)
    rows = [*make_ssm_inputs(**HALF, projects='input').values()][2:]
    columns = [*make_ssm_inputs(**HALF, projects='output').values()][2:]
    coupled = [*make_coupled_ssm_inputs(GRID, CHANNELS, RANK, STATES, dtype).values()]
    square, tall = _draw(CHANNELS, CHANNELS) / 4, _draw(2 * CHANNELS, CHANNELS) / 4
    ones = [_draw(CHANNELS) + 1 for _ in range(3)]
    calls = dict(
        directional_scan=[
            (partial(_scan, delta_softplus=True, direction='up'), scan),
            (partial(_scan, direction='left'), lone_scan),
        ],
        directional_conv=[(directional_conv, [x, _draw(CHANNELS, 3), ones[0]])],
        directional_convs=[
            (partial(directional_conv, direction=('left', 'up')), [x, _draw(CHANNELS, 3), ones[0]]),
            (_convolve_each, [torch.stack((x, gate)), _draw(CHANNELS, 2)]),
        ],
        directional_ssm=[(partial(directional_ssm, directions=('left', 'up')), ssm)],
        coupled_ssm=[
            (partial(_coupled, corners=('UL', 'UR'), reduction='sum'), coupled),
            (partial(_coupled, corners=('LL',), reduction='none'), coupled),
        ],
        corner_ssm=[(_two_halves, [x, gate, *rows, *columns])],
        ss2d=[
            (_gated_mixer, [x, tall, square, *rows, *columns]),
            (_normed_mixer, [x, square, square, *ones[:2], *rows, *columns]),
        ],
        gated_linear=[(gated_linear, [x, gate, square])],
        mlp=[(mlp, [x, tall, tall[:, 0], tall.t(), ones[0]])],
        channel_norm=[
            (channel_norm, [x, ones[0]]),
            (_offset_norm, [x, *ones]),
        ],
        add_norm=[(add_norm, [x, gate, ones[0]]), (add_norm, [x, gate.float(), *ones[:2]])],
    )
    if dtype == torch.float64:
        calls = {
            name: [(call, [t.to(dtype) for t in tensors]) for call, tensors in some]
            for name, some in calls.items()
        }
    return calls


def fusing_backend(name):
    """A backend that fuses an operator, or no test where what it takes is not installed.

    Without a GPU that is Triton, which its interpreter runs; Triton has not all of them.
    """
    if ON_GPU:
        return 'cuda'
    if name == 'coupled_ssm':
        if choose_backend('auto', torch.zeros(1)) != 'cpu':
            pytest.skip('there is no C++ compiler')
        return 'cpu'
    pytest.importorskip('triton')
    return 'triton'


def cases(dtype):
    """All calls, for ``pytest.mark.parametrize('name, call, tensors', ...)``."""
    return [(name, *one) for name, some in operator_calls(dtype).items() for one in some]


def outputs(call, tensors, backend):
    """What a call returns, as a tuple."""
    y = call(*tensors, backend=backend)
    return y if isinstance(y, tuple) else (y,)


def _draw(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=generator).to(dtype)


def _scan(x, delta, A, B, C=None, D=None, z=None, delta_bias=None, **options):
    return directional_scan(x, delta, A, B, C, D, z, delta_bias, **options)


def _convolve_each(maps, weight, backend):
    return directional_conv(maps, weight, direction=('down', 'right'), backend=backend)


def _coupled(*tensors, **options):
    return coupled_ssm(*nest_coupled_ssm(*tensors), **options)


def _two_halves(x, gate, *parameters, backend):
    return corner_ssm(x, gate, [_group(parameters)], 'sum', backend)


def _group(parameters):
    return Halves(parameters[:7], parameters[7:], ('right',), ('up',))


def _gated_mixer(x, in_weight, out_weight, *parameters, backend):
    return ss2d(x, in_weight, out_weight, [_group(parameters)], backend=backend)


def _normed_mixer(x, in_weight, out_weight, weight, bias, *parameters, backend):
    norm = ScanNorm(weight, bias)
    return ss2d(x, in_weight, out_weight, [_group(parameters)], norm, backend)


def _offset_norm(x, weight, bias, offset, backend):
    return channel_norm(x, weight, bias, offset=offset, backend=backend)
