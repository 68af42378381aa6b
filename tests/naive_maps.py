"""VMamba, PlainMamba and EfficientVMamba once more, token by token, on official weights.

Works on the official code's names and shapes of weights, so that a test that converts them compares
the model and its converter at once. Slow on purpose, and independent of mmv2m: maps are (C, H, W)
of one image, convolutions are sums over taps, scans walk lists of positions.
"""

import math

import torch
from naive import silu, softplus


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def weights_under(weights, prefix):
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def linear(x, w, name):
    """A linear layer on the channels of a map."""
    y = torch.einsum('oc,chw->ohw', w[f'{name}.weight'].flatten(1), x)
    return y + w[f'{name}.bias'][:, None, None] if f'{name}.bias' in w else y


def layer_norm(x, w, name, eps=1e-5):
    centred = x - x.mean(0)
    normed = centred / torch.sqrt((centred**2).mean(0) + eps)
    return normed * w[f'{name}.weight'][:, None, None] + w[f'{name}.bias'][:, None, None]


def batch_norm(x, w, name):
    """With the running statistics."""
    scale = w[f'{name}.weight'] / torch.sqrt(w[f'{name}.running_var'] + 1e-5)
    shift = w[f'{name}.bias'] - w[f'{name}.running_mean'] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def conv(x, w, name, stride=1, padding=0):
    """A convolution, depthwise where the weight has one input channel and the map more."""
    weight = w[f'{name}.weight']
    side = weight.shape[-1]
    padded = torch.zeros(
        x.shape[0], x.shape[1] + 2 * padding, x.shape[2] + 2 * padding, dtype=x.dtype
    )
    padded[:, padding : padding + x.shape[1], padding : padding + x.shape[2]] = x
    rows, columns = ((n - side) // stride + 1 for n in padded.shape[1:])
    y = torch.zeros(len(weight), rows, columns, dtype=x.dtype)
    for a in range(side):
        for b in range(side):
            seen = padded[:, a : a + stride * rows : stride, b : b + stride * columns : stride]
            if weight.shape[1] == 1 and len(x) > 1:
                y += weight[:, 0, a, b, None, None] * seen
            else:
                y += torch.einsum('oc,chw->ohw', weight[:, :, a, b], seen)
    return y + w[f'{name}.bias'][:, None, None] if f'{name}.bias' in w else y


def pad_to_even(x):
    padded = torch.zeros(len(x), *(n + n % 2 for n in x.shape[1:]), dtype=x.dtype)
    padded[:, : x.shape[1], : x.shape[2]] = x
    return padded


def row_by_row(rows, columns):
    return [(i, j) for i in rows for j in columns]


def column_by_column(rows, columns):
    return [(i, j) for j in columns for i in rows]


def recurrence(inputs, steps, B, C, A, D):
    """The selective scan of a list of tokens, each (E,)."""
    h = torch.zeros_like(A)
    outputs = []
    for x, dt, b, c in zip(inputs, steps, B, C, strict=True):
        h = torch.exp(dt[:, None] * A) * h + (dt * x)[:, None] * b
        outputs.append((h * c).sum(1) + D * x)
    return outputs


def scan(x, path, w, k):
    """The k-th of the stacked scans along a path over a map: a map that is zero elsewhere."""
    E, rank = w['dt_projs_weight'].shape[1:]
    own = slice(k * E, (k + 1) * E)
    A, D = -torch.exp(w['A_logs'][own]), w['Ds'][own]
    tokens = [x[:, i, j] for i, j in path]
    projected = [w['x_proj_weight'][k] @ token for token in tokens]
    steps = [
        softplus(w['dt_projs_weight'][k] @ p[:rank] + w['dt_projs_bias'][k]) for p in projected
    ]
    B = [p[rank : rank + A.shape[1]] for p in projected]
    C = [p[rank + A.shape[1] :] for p in projected]
    y = torch.zeros_like(x)
    for (i, j), out in zip(path, recurrence(tokens, steps, B, C, A, D), strict=True):
        y[:, i, j] = out
    return y


def vmamba(weights, image):
    """The last stage's map behind the norm."""
    return layer_norm(vmamba_stages(weights, image)[-1], weights, 'classifier.norm')


def vmamba_stages(w, image):
    """The four stages' maps."""
    stages = []
    x = layer_norm(conv(image, w, 'patch_embed.0', 2, 1), w, 'patch_embed.2')
    x = layer_norm(conv(gelu(x), w, 'patch_embed.5', 2, 1), w, 'patch_embed.7')
    for i in range(4):
        if i:
            down = f'layers.{i - 1}.downsample'
            x = layer_norm(conv(x, w, f'{down}.1', 2, 1), w, f'{down}.3')
        for j in range(len({k.split('.')[3] for k in w if k.startswith(f'layers.{i}.blocks')})):
            x = vmamba_block(x, weights_under(w, f'layers.{i}.blocks.{j}.'))
        stages.append(x)
    return stages


def vmamba_block(x, w):
    op = weights_under(w, 'op.')
    u = silu(conv(linear(layer_norm(x, w, 'norm'), op, 'in_proj'), op, 'conv2d', 1, 1))
    rows, columns = range(u.shape[1]), range(u.shape[2])
    along, across = row_by_row(rows, columns), column_by_column(rows, columns)
    paths = (along, across, along[::-1], across[::-1])
    y = sum(scan(u, path, op, k) for k, path in enumerate(paths))
    x = x + linear(layer_norm(y, op, 'out_norm'), op, 'out_proj')
    return x + linear(gelu(linear(layer_norm(x, w, 'norm2'), w, 'mlp.fc1')), w, 'mlp.fc2')


def efficient_vmamba(weights, image):
    """The last stage's map behind the norm."""
    w = weights
    x = layer_norm(conv(image, w, 'patch_embed.0', 4), w, 'patch_embed.2')
    for i in range(4):
        blocks = sorted({k.split('.')[3 if i < 2 else 2] for k in w if is_block(k, i)}, key=int)
        for j in blocks:
            if i < 2:
                x = efficient_block(x, weights_under(w, f'layers.{i}.blocks.{j}.'))
            else:
                x = inverted_residual(x, weights_under(w, f'layers.{i}.{j}.'))
        if i < 3:
            place = 'downsample' if i < 2 else str(len(blocks) + 2)
            x = patch_merging(x, weights_under(w, f'layers.{i}.{place}.'))
    return layer_norm(x, w, 'classifier.norm')


def is_block(key, i):
    return key.startswith(f'layers.{i}.') and ('.blocks.' in key if i < 2 else '.conv_pw.' in key)


def patch_merging(x, w):
    x = pad_to_even(x)
    parts = [x[:, a::2, b::2] for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
    return linear(layer_norm(torch.cat(parts), w, 'norm'), w, 'reduction')


def efficient_block(x, w):
    normed = layer_norm(x, w, 'norm')
    near = gelu(batch_norm(conv(normed, w, 'conv_branch.0', 1, 1), w, 'conv_branch.1'))
    near = conv(near, w, 'conv_branch.3')
    gate = weights_under(w, 'se.')
    far = atrous_scan(normed, weights_under(w, 'op.'))
    return x + channel_gate(far, gate) + channel_gate(near, gate)


def channel_gate(x, w):
    means = layer_norm(x, w, 'norm').mean((1, 2), keepdim=True)
    return x * sigmoid(linear(gelu(linear(means, w, 'global_reduce')), w, 'channel_select'))


def atrous_scan(x, w):
    u, z = linear(x, w, 'in_proj').chunk(2)
    u = pad_to_even(silu(conv(u, w, 'conv2d', 1, 1)))
    even_rows, odd_rows = range(0, u.shape[1], 2), range(1, u.shape[1], 2)
    even_columns, odd_columns = range(0, u.shape[2], 2), range(1, u.shape[2], 2)
    paths = (
        row_by_row(even_rows, even_columns),
        column_by_column(odd_rows, even_columns),
        row_by_row(even_rows, odd_columns),
        column_by_column(odd_rows, odd_columns),
    )
    y = sum(scan(u, path, w, k) for k, path in enumerate(paths))
    y = layer_norm(y[:, : x.shape[1], : x.shape[2]], w, 'out_norm')
    return linear(y * silu(z), w, 'out_proj')


def inverted_residual(x, w):
    y = batch_norm(conv(x, w, 'conv_pw.0'), w, 'conv_pw.1').clamp_min(0)
    y = batch_norm(conv(y, w, 'conv_dw.0', 1, 1), w, 'conv_dw.1').clamp_min(0)
    means = y.mean((1, 2), keepdim=True)
    gate = conv(conv(means, w, 'se.conv_reduce').clamp_min(0), w, 'se.conv_expand')
    return x + batch_norm(conv(y * sigmoid(gate), w, 'conv_pw2.0'), w, 'conv_pw2.1')


MOVES = {None: 0, (0, 1): 1, (0, -1): 2, (-1, 0): 3, (1, 0): 4}
"""The official code's numbers for how a token is reached from the one before: start, right, left,
up, down."""


def snakes(rows, columns):
    """The four orders of PlainMamba."""
    along = [(i, j if i % 2 == 0 else columns - 1 - j) for i in range(rows) for j in range(columns)]
    across = [(i if j % 2 == 0 else rows - 1 - i, j) for j in range(columns) for i in range(rows)]
    return along, along[::-1], across, across[::-1]


def plain_mamba(weights, image):
    """The last stage's map behind the norm."""
    w = weights_under(weights, 'backbone.')
    return layer_norm(plain_mamba_blocks(w, image)[-1], w, 'ln1', 1e-6)


def plain_mamba_blocks(w, image):
    """The map behind each block."""
    blocks = []
    stem = 'patch_embed.stem'
    x = batch_norm(conv(image, w, f'{stem}.0', 2, 3), w, f'{stem}.1').clamp_min(0)
    convs = 'patch_embed.convs'
    for i in sorted({int(k.split('.')[2]) for k in w if k.startswith(convs)})[::2]:
        x = batch_norm(conv(x, w, f'{convs}.{i}', 1, 1), w, f'{convs}.{i + 1}').clamp_min(0)
    x = conv(x, w, 'patch_embed.projection', 8)
    if w['pos_embed'].any():  # else the map may have any shape
        x = x + w['pos_embed'][0].T.reshape(x.shape)
    for i in range(len({k.split('.')[1] for k in w if k.startswith('layers.')})):
        block = weights_under(w, f'layers.{i}.')
        x = x + snake_scan(layer_norm(x, block, 'norm'), weights_under(block, 'mamba.'))
        if 'dw.0.weight' in block:
            x = gelu(batch_norm(conv(x, block, 'dw.0', 1, 1), block, 'dw.1'))
        blocks.append(x)
    return blocks


def snake_scan(x, w):
    """Each order's steps take time step, B and C of the tokens row by row, whatever they visit."""
    u, z = linear(x, w, 'in_proj').chunk(2)
    u = silu(conv(u, w, 'conv2d', 1, w['conv2d.weight'].shape[-1] // 2))
    rank, A = w['dt_proj.weight'].shape[1], -torch.exp(w['A_log'])
    projected = [w['x_proj.weight'] @ u[:, i, j] for i, j in row_by_row(*map(range, u.shape[1:]))]
    bias = w['dt_proj.bias']
    steps = [softplus(w['dt_proj.weight'] @ p[:rank] + bias + bias) for p in projected]
    B = [p[rank : rank + A.shape[1]] for p in projected]
    C = [p[rank + A.shape[1] :] for p in projected]
    y = torch.zeros_like(u)
    for path in snakes(*u.shape[1:]):
        moves = [None] + [
            (i - k, j - m) for (k, m), (i, j) in zip(path[:-1], path[1:], strict=True)
        ]
        directed = [b + w['direction_Bs'][MOVES[move]] for b, move in zip(B, moves, strict=True)]
        visited = [u[:, i, j] for i, j in path]
        outputs = recurrence(visited, steps, directed, C, A, w['D'])
        for (i, j), out in zip(path, outputs, strict=True):
            y[:, i, j] += out
    return linear(y * silu(z), w, 'out_proj')
