"""Random arguments of the operators, which several tests share."""

import torch

from mmv2m.ops.directions import get_direction


def make_inputs(shape=(2, 3, 5, 4), states=3, dtype=torch.float64, B='token', C='token', seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*size, dtype=dtype):
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    exact = torch.promote_types(dtype, torch.float32)
    channels = shape[-1]
    kinds = {'token': (*shape[:3], states), 'constant': (channels, states)}

    def projection(kind):
        if kind is None:
            return None
        return normal(*kinds[kind], dtype=dtype if kind == 'token' else exact)

    return dict(
        x=normal(*shape),
        delta=normal(*shape),
        A=-normal(channels, states, dtype=exact).exp(),
        B=projection(B),
        C=projection(C),
        D=normal(channels, dtype=exact),
        z=normal(*shape),
        delta_bias=normal(channels, dtype=exact),
        delta_softplus=True,
    )


def make_ssm_inputs(
    grid=(2, 3, 5),
    channels=6,
    rank=3,
    states=4,
    maps=0,
    projects='input',
    dtype=torch.float32,
    conv=True,
):
    """Tensors of ``directional_ssm``: x (one map, or ``maps`` of them), gate, parameters.

    Without ``conv`` gate, weight and bias are None.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*size, dtype=torch.float32):
        return torch.randn(*size, generator=generator).to(dtype)

    sides = 2 if projects == 'both' else 1
    x, gate = normal(*grid, 2 * channels, dtype=dtype).chunk(2, -1)
    inputs = dict(
        x=normal(maps, *grid, channels, dtype=dtype) if maps else x,
        gate=gate,
        conv_weight=normal(channels, 4) / 2,
        conv_bias=normal(channels) / 4,
        x_proj=normal(rank + sides * states, channels) / channels**0.5,
        dt_proj=normal(channels, rank) / rank**0.5,
        dt_bias=normal(channels) - 2,
        A=-normal(channels, states).exp(),
        D=normal(channels),
    )
    return inputs if conv else inputs | dict(gate=None, conv_weight=None, conv_bias=None)


def directions_of(*names):
    """Directions by their names, as functions that launch kernels take them."""
    return [get_direction(name) for name in names]


def make_coupled_inputs(
    corners=('UL',), grid=(2, 3, 5), channels=4, states=3, dtype=torch.float64, seed=0
):
    """Arguments of ``coupled_scan`` but for the corners; weights that keep the states small."""
    generator = torch.Generator().manual_seed(seed)
    exact = torch.promote_types(dtype, torch.float32)

    def normal(*size, dtype=dtype):
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    maps = (len(corners), *grid)
    B, C = (normal(*maps, 2, states) for _ in range(2))
    weight = torch.rand(2, channels, generator=generator, dtype=torch.float64).to(exact)
    return dict(
        x=normal(*maps, channels),
        delta=normal(2, *maps, channels),
        A=-normal(2, 2, channels, states, dtype=exact).exp(),
        weight=torch.stack((weight, 1 - weight), 1),
        B=B,
        C=C,
        D=normal(channels, dtype=exact),
        delta_bias=normal(2, channels, dtype=exact),
        delta_softplus=True,
    )


def make_coupled_ssm_inputs(
    grid=(2, 3, 5), channels=6, rank=3, states=4, dtype=torch.float32, taps=(4, 3), conv_bias=True
):
    """Tensors of ``coupled_ssm`` one behind the other; the parameters are float32."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    first, second = torch.rand(2, channels, generator=generator)
    return dict(
        x=normal(*grid, channels).to(dtype),
        conv=normal(channels, taps[0]) / 2,
        conv_bias=normal(channels) / 4 if conv_bias else None,
        second_conv=normal(channels, taps[1]) / 2,
        second_conv_bias=normal(channels) / 4 if conv_bias else None,
        x_proj=normal(2 * rank + 4 * states, channels) / max(1, channels) ** 0.5,
        dt_proj=normal(channels, rank) / rank**0.5,
        dt_bias=normal(channels) - 1,
        second_dt_proj=normal(channels, rank) / rank**0.5,
        second_dt_bias=normal(channels) - 1,
        A=-normal(2, 2, channels, states).exp(),
        weight=torch.stack((first, 1 - first, 1 - second, second)).view(2, 2, channels),
        D=normal(channels),
    )


def nest_coupled_ssm(x, *parameters):
    """The same tensors as ``coupled_ssm`` takes them, with layers as pairs."""
    conv, bias, second, second_bias, x_proj, *dt_projs, A, weight, D = parameters
    convs, dt_projs = [(conv, bias), (second, second_bias)], [dt_projs[:2], dt_projs[2:]]
    return x, convs, x_proj, dt_projs, A, weight, D


def with_gaps(value):
    """The same numbers, every second one of a longer tensor; maps and others stay as they are."""
    if not isinstance(value, torch.Tensor) or value.dim() > 3:
        return value
    return torch.stack((value, torch.full_like(value, 100.0)), -1)[..., 0]
