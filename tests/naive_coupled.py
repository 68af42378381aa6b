"""The exact 2D recurrence once more, token by token in float64, independent of mmv2m.ops.

Written from Eq. 6 to 8 of the paper for the upper-left corner; other corners turn and mirror the
grid. Slow on purpose: loops over images, rows and columns, no broadcasting over the map.
"""

import torch
from naive import conv, layer_norm, silu, softplus

TURNS = {
    'UL': (lambda m: m, lambda m: m),
    'LR': (lambda m: m.flip(1, 2), lambda m: m.flip(1, 2)),
    'UR': (lambda m: m.flip(2).transpose(1, 2), lambda m: m.transpose(1, 2).flip(2)),
    'LL': (lambda m: m.flip(1).transpose(1, 2), lambda m: m.transpose(1, 2).flip(1)),
}
"""For each corner: how a (B, H, W, ...) map is laid so that its walk starts at the upper left, goes
right in its first direction and down in its second; and the way back."""


def coupled_scan(x, delta, A, weight, B, C, D=None, bias=None, use_softplus=False, corners=('UL',)):
    """All arguments as the operator has them; returns (K, B, H, W, E) in float64."""
    outputs = []
    for k, corner in enumerate(corners):
        there, back = TURNS[corner]
        steps = [there(delta[n, k].double()) for n in (0, 1)]
        if bias is not None:
            steps = [step + bias[n].double() for n, step in enumerate(steps)]
        if use_softplus:
            steps = [softplus(step) for step in steps]
        maps = (there(m[k].double()) for m in (x, B, C))
        y = from_upper_left(*steps, A.double(), weight.double(), *maps)
        outputs.append(back(y) if D is None else back(y) + D.double() * x[k].double())
    return torch.stack(outputs)


def from_upper_left(step_1, step_2, A, w, x, B, C):
    """Maps of one corner: steps and ``x`` (B, H, W, E), ``B`` and ``C`` (B, H, W, 2, N)."""
    batch, height, width, channels = x.shape
    y = torch.zeros(x.shape, dtype=torch.float64)
    states = A.shape[-1]
    for b in range(batch):
        h1 = torch.zeros(height, width + 1, channels, states, dtype=torch.float64)
        h2 = torch.zeros(height + 1, width, channels, states, dtype=torch.float64)
        for i in range(height):
            for j in range(width):
                left, above = h1[i, j], h2[i, j]  # h1 has a column of zeros before, h2 a row
                d1, d2 = step_1[b, i, j][:, None], step_2[b, i, j][:, None]
                u = x[b, i, j][:, None]
                h1[i, j + 1] = (
                    w[0, 0][:, None] * torch.exp(d1 * A[0, 0]) * left
                    + w[0, 1][:, None] * torch.exp(d1 * A[0, 1]) * above
                    + d1 * B[b, i, j, 0] * u
                )
                h2[i + 1, j] = (
                    w[1, 0][:, None] * torch.exp(d2 * A[1, 0]) * left
                    + w[1, 1][:, None] * torch.exp(d2 * A[1, 1]) * above
                    + d2 * B[b, i, j, 1] * u
                )
                read = C[b, i, j, 0] * h1[i, j + 1] + C[b, i, j, 1] * h2[i + 1, j]
                y[b, i, j] = read.sum(-1)
    return y


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def coupled_ssm(x, convs, x_proj, dt_projs, A, weight, D, corner):
    """From one corner, with the operator's arguments in float64, and convolutions (E, taps)."""
    there, back = TURNS[corner]
    x = there(x)
    for (taps, bias), way in zip(convs, ('right', 'down'), strict=True):
        x = conv(x, taps, bias, way)
    rank, states = dt_projs[0][0].shape[1], A.shape[-1]
    projected = x @ x_proj.T
    sides = projected[..., 2 * rank :]
    B, C = (
        torch.stack([sides[..., (2 * s + k) * states :][..., :states] for k in (0, 1)], -2)
        for s in (0, 1)
    )
    steps = [
        softplus(projected[..., k * rank :][..., :rank] @ dt_proj.T + bias)
        for k, (dt_proj, bias) in enumerate(dt_projs)
    ]
    return back(from_upper_left(*steps, A, weight, x, B, C) + D * x)


def coupled_layer(module, x, corner):
    """A CoupledSSM from one corner, on its parameters; not gated."""
    p = dict(module.named_parameters())
    convs = [(p[f'convs.{k}.weight'][:, 0], p[f'convs.{k}.bias']) for k in (0, 1)]
    dt_projs = [(p[f'dt_projs.{k}.weight'], p[f'dt_projs.{k}.bias']) for k in (0, 1)]
    first, second = sigmoid(p['mix']).chunk(2)
    weight = torch.stack((torch.stack((first, 1 - first)), torch.stack((1 - second, second))))
    A = -torch.exp(p['A_log'])
    return coupled_ssm(x, convs, p['x_proj.weight'], dt_projs, A, weight, p['D'], corner)


def coupled_ss2d(mixer, x, groups):
    """A mixer with the coupled recurrence; ``groups`` has the corners of each group."""
    x = x @ mixer.in_proj.weight.T
    x, z = x.chunk(2, -1) if mixer.gated else (x, None)
    outputs = [coupled_layer(mixer.ssm[name], x, c) for name, cs in groups.items() for c in cs]
    total = sum(outputs) / mixer.divisor
    total = layer_norm(mixer.out_norm, total) if z is None else total * silu(z)
    return total @ mixer.out_proj.weight.T
