"""The equations once more, token by token in float64, independent of mmv2m.ops.

Written from the paper; slow on purpose: scalar loops over positions, turned grids, no broadcasting
over the map. Also what several tests share.
"""

from functools import partial

import torch
from torch import Tensor

STEP = {'right': (0, 1), 'left': (0, -1), 'down': (1, 0), 'up': (-1, 0)}


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Norm of the difference over the norm of the truth."""
    value, truth = value.detach().double(), truth.detach().double()
    return ((value - truth).norm() / truth.norm().clamp_min(1e-300)).item()


def walk(height, width, direction):
    """Positions of each lane, a list for each, in the order of the walk."""
    down, right = STEP[direction]
    if right:
        columns = range(width)[::right]
        return [[(i, j) for j in columns] for i in range(height)]
    rows = range(height)[::down]
    return [[(i, j) for i in rows] for j in range(width)]


def silu(x):
    return x / (1 + torch.exp(-x))


def softplus(x):
    return torch.clamp(x, min=0) + torch.log1p(torch.exp(-x.abs()))


def projection_at(projection, b, i, j, shape):
    """B or C of one token as (E, N) whatever its form."""
    if projection is None:
        return torch.ones(shape, dtype=torch.float64)
    if projection.dim() == 2:
        return projection.double()
    return projection[b, i, j].double().expand(shape)


def scan(x, delta, A, B=None, C=None, D=None, z=None, bias=None, use_softplus=False, way='right'):
    """The selective scan of a (B, H, W, E) map."""
    batch, height, width, channels = x.shape
    y = torch.zeros(x.shape, dtype=torch.float64)
    x, delta, A = x.double(), delta.double(), A.double()
    for b in range(batch):
        for lane in walk(height, width, way):
            h = torch.zeros(A.shape, dtype=torch.float64)
            for i, j in lane:
                dt = delta[b, i, j] if bias is None else delta[b, i, j] + bias.double()
                dt = (softplus(dt) if use_softplus else dt)[:, None]
                inflow = dt * projection_at(B, b, i, j, A.shape) * x[b, i, j][:, None]
                h = torch.exp(dt * A) * h + inflow
                out = (projection_at(C, b, i, j, A.shape) * h).sum(-1)
                if D is not None:
                    out = out + D.double() * x[b, i, j]
                y[b, i, j] = out if z is None else out * silu(z[b, i, j].double())
    return y


def conv(x, weight, bias, way):
    """Causal depthwise convolution and SiLU of a (B, H, W, E) map."""
    y = torch.zeros(x.shape, dtype=torch.float64)
    taps = weight.shape[1]
    for b in range(len(x)):
        for lane in walk(*x.shape[1:3], way):
            for t, (i, j) in enumerate(lane):
                total = torch.zeros(x.shape[-1], dtype=torch.float64) if bias is None else bias
                for lag in range(min(taps, t + 1)):
                    past = x[b, lane[t - lag][0], lane[t - lag][1]].double()
                    total = total + weight[:, taps - 1 - lag].double() * past
                y[b, i, j] = silu(total)
    return y


def half(parameters, x, z, way, side):
    """One scan of the 2D SSM (design: Eq. 9 and 11 for side B, Eq. 12 for side C)."""
    p = dict(parameters.named_parameters())
    x = conv(x, p['conv.weight'][:, 0], p['conv.bias'], way)
    rank = p['dt_proj.weight'].shape[1]
    projected = x @ p['x_proj.weight'].T
    dt, projection = projected[..., :rank], projected[..., rank:]
    return scan(
        x,
        dt @ p['dt_proj.weight'].T,
        -torch.exp(p['A_log']),
        D=p['D'],
        z=z,
        bias=p['dt_proj.bias'],
        use_softplus=True,
        way=way,
        **{side: projection},
    )


def from_upper_left(ssm, x, z):
    """``F`` of the paper without its last gate: rows along W, then columns along H."""
    return half(ssm.columns, half(ssm.rows, x, z, 'right', 'B'), None, 'down', 'C')


QUARTER_TURNS = {'UL': 0, 'UR': 1, 'LR': 2, 'LL': 3}
"""How often torch.rot90 brings each corner to the upper left."""


def from_corner(ssm, x, z, corner):
    """``F`` started at a corner, by turning the grid (Eq. 13-15)."""
    k = QUARTER_TURNS[corner]
    turned = [None if m is None else torch.rot90(m, k, (1, 2)) for m in (x, z)]
    return torch.rot90(from_upper_left(ssm, *turned), -k, (1, 2))


def in_windows(f, x, z, window):
    """``f(x, z)`` in each window of the map, padded with zeros; on the whole map if 0."""
    if not window:
        return f(x, z)
    batch, height, width, channels = x.shape
    rows, columns = range(0, height, window), range(0, width, window)
    whole = (batch, len(rows) * window, len(columns) * window, channels)
    padded = [None if m is None else torch.zeros(whole, dtype=m.dtype) for m in (x, z)]
    for full, m in zip(padded, (x, z), strict=True):
        if m is not None:
            full[:, :height, :width] = m
    y = torch.zeros(whole, dtype=torch.float64)
    for i in rows:
        for j in columns:
            here = (slice(None), slice(i, i + window), slice(j, j + window))
            y[here] = f(*(None if m is None else m[here] for m in padded))
    return y[:, :height, :width]


def layer_norm(norm, x):
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return centred / scale * norm.weight + norm.bias


def attention(module, y):
    """How much each channel counts (LocalMamba): (B, 1, 1, E)."""
    pooled = layer_norm(module.norm, y).mean((1, 2), keepdim=True)
    inner = pooled @ module.reduce.weight.T + module.reduce.bias
    inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
    return torch.sigmoid(inner @ module.expand.weight.T + module.expand.bias)


def ss2d(mixer, x, groups):
    """A mixer; ``groups`` has corners and window side (0: none) of each group of its parameters."""
    x = x @ mixer.in_proj.weight.T
    x, z = x.chunk(2, -1) if mixer.gated else (x, None)
    total = 0
    for name, (corners, window) in groups.items():
        y = 0
        for corner in corners:
            f = partial(from_corner, mixer.ssm[name], corner=corner)
            y = y + in_windows(f, x, z, window)
        is_local = hasattr(mixer.attention, 'reduce')
        total = total + (y * attention(mixer.attention, y) if is_local else y)
    total = layer_norm(mixer.out_norm, total) if z is None else total * silu(z)
    return total @ mixer.out_proj.weight.T


def released_ss2d(mixer, x):
    """The authors' released code: its four branches as flips and transposes of the grid."""
    x, z = (x @ mixer.in_proj.weight.T).chunk(2, -1)

    def t(m):
        return m.transpose(1, 2)

    def fh(m):
        return m.flip(2)

    def fv(m):
        return m.flip(1)

    def f(turn):
        return from_upper_left(mixer.ssm['all'], turn(x), turn(z)) * silu(turn(z))

    total = t(f(lambda m: m)) + f(t)
    total = total + fh(fv(t(f(fh)))) + fh(fv(f(lambda m: t(fv(m)))))
    return total / 2 @ mixer.out_proj.weight.T
