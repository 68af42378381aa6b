"""Vim and LocalVim once more, from their papers, token by token, on official weights.

Works on the official code's names and shapes of weights, so that a test that converts them compares
the model and its converter at once. Slow on purpose, and independent of mmv2m: patches are slices,
orders are lists of positions, turns are 2 x 2 matrices.
"""

import math

import naive
import torch


def rms_norm(x, weight):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * weight + bias


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def patches(image, weight, bias, stride):
    """The tokens of one image, (L, D), and how many rows and columns there are."""
    side = weight.shape[-1]
    rows, columns = ((length - side) // stride + 1 for length in image.shape[1:])
    tokens = [
        (image[:, i * stride : i * stride + side, j * stride : j * stride + side] * weight)
        .flatten(1)
        .sum(1)
        + bias
        for i in range(rows)
        for j in range(columns)
    ]
    return torch.stack(tokens), (rows, columns)


def positions(order, rows, columns):
    """The tokens' numbers in the order of a scan; None for padding."""
    name, _, flip = order.partition('_')
    if name == 'h':
        walked = [i * columns + j for i in range(rows) for j in range(columns)]
    elif name == 'v':
        walked = [i * columns + j for j in range(columns) for i in range(rows)]
    else:
        side = int(name[1:])
        walked = [
            i * columns + j if i < rows and j < columns else None
            for top in range(0, rows, side)
            for left in range(0, columns, side)
            for i in range(top, top + side)
            for j in range(left, left + side)
        ]
    return walked[::-1] if flip else walked


def mamba(xz, w, suffix, A_log, order):
    """Mamba's SSM over the tokens in some order, (L, 2 E) to (L, E)."""
    width = xz.shape[1] // 2
    nothing = torch.zeros_like(xz[0])
    walked = torch.stack([nothing if t is None else xz[t] for t in order])
    x, z = walked[None, None].split(width, -1)
    x = naive.conv(x, w[f'conv1d{suffix}.weight'][:, 0], w[f'conv1d{suffix}.bias'], 'right')
    projected = x @ w[f'x_proj{suffix}.weight'].T
    dt_proj = w[f'dt_proj{suffix}.weight']
    rank, states = dt_proj.shape[1], A_log.shape[1]
    dt, B, C = projected.split((rank, states, states), -1)
    y = naive.scan(
        x,
        dt @ dt_proj.T,
        -torch.exp(A_log),
        B=B,
        C=C,
        D=w[f'D{suffix}'],
        z=z,
        bias=w[f'dt_proj{suffix}.bias'],
        use_softplus=True,
    )[0, 0]
    back = {t: k for k, t in enumerate(order)}
    return torch.stack([y[back[t]] for t in range(len(xz))])


def inside(w, prefix):
    return {key.removeprefix(prefix): value for key, value in w.items() if key.startswith(prefix)}


def vim(w, image, stride, depth):
    """Logits of one image, (3, H, W)."""
    x, _ = patches(image, w['patch_embed.proj.weight'], w['patch_embed.proj.bias'], stride)
    middle = len(x) // 2
    x = torch.cat((x[:middle], w['cls_token'][0], x[middle:])) + w['pos_embed'][0]
    x, _ = vim_blocks(w, x, depth)
    return rms_norm(x, w['norm_f.weight'])[middle] @ w['head.weight'].T + w['head.bias']


def vim_blocks(w, x, depth):
    """The tokens behind the last block, and what each block adds to them."""
    forwards, added = list(range(len(x))), []
    for k in range(depth):
        m = inside(w, f'layers.{k}.mixer.')
        xz = rms_norm(x, w[f'layers.{k}.norm.weight']) @ m['in_proj.weight'].T
        y = mamba(xz, m, '', m['A_log'], forwards)
        y = y + mamba(xz, m, '_b', m['A_b_log'], forwards[::-1])
        added.append(y / 2 @ m['out_proj.weight'].T)
        x = x + added[-1]
    return x, added


def turn(x, rows, columns):
    """Rotary positions: the first half of the channels by the row, the second by the column."""
    x, width = x.clone(), x.shape[1]
    for i in range(rows):
        for j in range(columns):
            for pair in range(width // 2):
                place, side = (i, rows) if pair < width // 4 else (j, columns)
                rate = 10000 ** (-(pair % (width // 4)) * 4 / width)
                angle = place / side * 14 * rate
                cos, sin = math.cos(angle), math.sin(angle)
                matrix = torch.tensor([[cos, -sin], [sin, cos]], dtype=x.dtype)
                t, channels = i * columns + j, slice(2 * pair, 2 * pair + 2)
                x[t, channels] = matrix @ x[t, channels]
    return x


def attention(y, w):
    pooled = layer_norm(y, w['norm.weight'], w['norm.bias']).mean(0)
    hidden = gelu(w['global_reduce.weight'] @ pooled + w['global_reduce.bias'])
    weights = w['channel_select.weight'] @ hidden + w['channel_select.bias']
    return y * torch.sigmoid(weights)


def local_vim(w, image, scans):
    """Logits of one image, (3, H, W)."""
    x, _ = local_vim_blocks(w, image, scans)
    return rms_norm(x, w['norm_f.weight']).mean(0) @ w['head.weight'].T + w['head.bias']


def local_vim_blocks(w, image, scans):
    """The tokens behind the last block, and what each block adds to them."""
    weight = w['patch_embed.proj.weight']
    x, grid = patches(image, weight, w['patch_embed.proj.bias'], weight.shape[-1])
    x, added = x + w['pos_embed'][0], []
    for k, names in enumerate(scans):
        x = turn(x, *grid)
        m = inside(w, f'layers.{k}.mixer.')
        gain, shift = (w.get(f'layers.{k}.norm.{kind}') for kind in ('weight', 'bias'))
        normed = rms_norm(x, gain) if shift is None else layer_norm(x, gain, shift)
        xz = normed @ m['in_proj.weight'].T
        outputs = [
            mamba(xz, m, f'_{n}', m[f'A_log_{n}'], positions(name, *grid))
            for n, name in enumerate(names)
        ]
        y = sum(attention(y, inside(m, 'attn.')) for y in outputs)
        added.append(y @ m['out_proj.weight'].T)
        x = x + added[-1]
    return x, added


def random_weights(shapes, seed=0):
    """Weights of given names and shapes, none of them at a special value."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) / 2
        for name, shape in shapes.items()
    }


def scan_shapes(suffix, A_log, inner, states, rank):
    return {
        A_log: (inner, states),
        f'D{suffix}': (inner,),
        f'conv1d{suffix}.weight': (inner, 1, 4),
        f'conv1d{suffix}.bias': (inner,),
        f'x_proj{suffix}.weight': (rank + 2 * states, inner),
        f'dt_proj{suffix}.weight': (inner, rank),
        f'dt_proj{suffix}.bias': (inner,),
    }


def common_shapes(width, depth, patch, classes):
    shapes = {
        'patch_embed.proj.weight': (width, 3, patch, patch),
        'patch_embed.proj.bias': (width,),
        'norm_f.weight': (width,),
        'head.weight': (classes, width),
        'head.bias': (classes,),
    }
    for k in range(depth):
        shapes |= {
            f'layers.{k}.norm.weight': (width,),
            f'layers.{k}.mixer.in_proj.weight': (4 * width, width),
            f'layers.{k}.mixer.out_proj.weight': (width, 2 * width),
        }
    return shapes


def vim_weights(tokens, width=8, depth=4, states=2, patch=4, classes=5):
    """Random weights as the official Vim names them, for ``tokens`` patches."""
    shapes = common_shapes(width, depth, patch, classes)
    shapes |= {'cls_token': (1, 1, width), 'pos_embed': (1, tokens + 1, width)}
    for k in range(depth):
        for suffix, A_log in (('', 'A_log'), ('_b', 'A_b_log')):
            own = scan_shapes(suffix, A_log, 2 * width, states, rank=1)
            shapes |= {f'layers.{k}.mixer.{name}': shape for name, shape in own.items()}
    return random_weights(shapes)


def local_vim_weights(side, width=8, depth=4, states=2, patch=4, classes=5):
    """Random weights as the official LocalVim names them, for ``side`` x ``side`` patches."""
    shapes = common_shapes(width, depth, patch, classes) | {'pos_embed': (1, side**2, width)}
    for k in range(depth):
        own = {
            'attn.norm.weight': (2 * width,),
            'attn.norm.bias': (2 * width,),
            'attn.global_reduce.weight': (width // 4, 2 * width),
            'attn.global_reduce.bias': (width // 4,),
            'attn.channel_select.weight': (2 * width, width // 4),
            'attn.channel_select.bias': (2 * width,),
        }
        for n in range(4):
            own |= scan_shapes(f'_{n}', f'A_log_{n}', 2 * width, states, rank=1)
        shapes |= {f'layers.{k}.mixer.{name}': shape for name, shape in own.items()}
    return random_weights(shapes) | {
        'rope.freqs_cos': turn_table(side, width, math.cos),
        'rope.freqs_sin': turn_table(side, width, math.sin),
    }


def turn_table(side, width, function):
    """The cosine or sine of each token's and channel's angle, as the official code stores them."""
    rows = []
    for i in range(side):
        for j in range(side):
            angles = [
                place / side * 14 * 10000 ** (-4 * pair / width)
                for place in (i, j)
                for pair in range(width // 4)
            ]
            rows.append([function(angle) for angle in angles for _ in range(2)])
    return torch.tensor(rows, dtype=torch.float64)
