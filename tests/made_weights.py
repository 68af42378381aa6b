"""Made weights in the names and shapes of the official code of VMamba and its kin."""

import argparse
import math

import torch


def random_weights(shapes, seed=0):
    """Random tensors under which every branch and every parameter counts, in float64."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith('running_var'):
            value = 1 + value.abs()
        elif name.endswith('num_batches_tracked'):
            value = torch.tensor(3)
        elif len(shape) == 1 or 'A_log' in name or 'bias' in name:
            value = value / 3 + name.endswith(('weight', 'D', 'Ds'))
        elif 'direction' not in name and 'pos_embed' not in name:
            value = value / math.sqrt(math.prod(shape[1:]) if len(shape) == 4 else shape[-1])
        weights[name] = value
    return weights


def under(prefix, shapes):
    return {f'{prefix}{name}': shape for name, shape in shapes.items()}


def layer(name, *shape, bias=True):
    """A linear layer or a convolution."""
    return {f'{name}.weight': shape} | ({f'{name}.bias': shape[:1]} if bias else {})


def norm(name, width):
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}


def batch_norm(name, width):
    statistics = {f'{name}.running_mean': (width,), f'{name}.running_var': (width,)}
    return norm(name, width) | statistics | {f'{name}.num_batches_tracked': ()}


def four_scans(inner, states, rank):
    return {
        'x_proj_weight': (4, rank + 2 * states, inner),
        'dt_projs_weight': (4, inner, rank),
        'dt_projs_bias': (4, inner),
        'A_logs': (4 * inner, states),
        'Ds': (4 * inner,),
    }


def vmamba_weights(width, depths, expand, states, ffn_ratio=2, classes=5):
    shapes = layer('patch_embed.0', width // 2, 3, 3, 3) | norm('patch_embed.2', width // 2)
    shapes |= layer('patch_embed.5', width, width // 2, 3, 3) | norm('patch_embed.7', width)
    for i, depth in enumerate(depths):
        D = width * 2**i
        inner = expand * D
        block = norm('norm', D) | norm('norm2', D) | norm('op.out_norm', inner)
        block |= layer('mlp.fc1', ffn_ratio * D, D) | layer('mlp.fc2', D, ffn_ratio * D)
        block |= layer('op.in_proj', inner, D, bias=False)
        block |= layer('op.conv2d', inner, 1, 3, 3, bias=False)
        block |= layer('op.out_proj', D, inner, bias=False)
        block |= under('op.', four_scans(inner, states, math.ceil(D / 16)))
        for j in range(depth):
            shapes |= under(f'layers.{i}.blocks.{j}.', block)
        if i < 3:
            shapes |= layer(f'layers.{i}.downsample.1', 2 * D, D, 3, 3)
            shapes |= norm(f'layers.{i}.downsample.3', 2 * D)
    shapes |= norm('classifier.norm', 8 * width) | layer('classifier.head', classes, 8 * width)
    return random_weights(shapes)


def save_official_vmamba(path):
    """A file as VMamba's authors save a VMamba-T [s1l8], but with five blocks."""
    weights = vmamba_weights(96, (2, 1, 1, 1), expand=1, states=1, ffn_ratio=4, classes=1000)
    weights = {name: value.float() for name, value in weights.items()}
    torch.save(dict(model=weights, config=argparse.Namespace(lr=1e-3), epoch=264), path)


def efficient_vmamba_weights(width, depths, states, expand=2, conv_expand=4, classes=5):
    shapes = layer('patch_embed.0', width, 3, 4, 4) | norm('patch_embed.2', width)
    for i, depth in enumerate(depths):
        D = width * 2**i
        if i < 2:
            inner = expand * D
            block = norm('norm', D) | norm('op.out_norm', inner) | norm('se.norm', D)
            block |= layer('op.in_proj', 2 * inner, D, bias=False)
            block |= layer('op.conv2d', inner, 1, 3, 3)
            block |= layer('op.out_proj', D, inner, bias=False)
            block |= under('op.', four_scans(inner, states, math.ceil(D / 16)))
            block |= layer('conv_branch.0', D, 1, 3, 3) | batch_norm('conv_branch.1', D)
            block |= layer('conv_branch.3', D, D, 1, 1)
            block |= layer('se.global_reduce', D // 8, D) | layer('se.channel_select', D, D // 8)
        else:
            inner = conv_expand * D
            block = layer('conv_pw.0', inner, D, 1, 1, bias=False) | batch_norm('conv_pw.1', inner)
            block |= layer('conv_dw.0', inner, 1, 3, 3, bias=False)
            block |= batch_norm('conv_dw.1', inner)
            block |= layer('se.conv_reduce', inner // 8, inner, 1, 1)
            block |= layer('se.conv_expand', inner, inner // 8, 1, 1)
            block |= layer('conv_pw2.0', D, inner, 1, 1, bias=False) | batch_norm('conv_pw2.1', D)
        for j in range(depth):
            shapes |= under(f'layers.{i}.blocks.{j}.' if i < 2 else f'layers.{i}.{j + 1}.', block)
        if i < 3:
            place = f'layers.{i}.downsample' if i < 2 else f'layers.{i}.{depth + 2}'
            shapes |= norm(f'{place}.norm', 4 * D)
            shapes |= layer(f'{place}.reduction', 2 * D, 4 * D, bias=False)
    shapes |= norm('classifier.norm', 8 * width) | layer('classifier.head', classes, 8 * width)
    return random_weights(shapes)


def plain_mamba_weights(
    width, blocks, side, states, stem_convs=1, conv_behind_first=True, expand=2, classes=5
):
    shapes = layer('patch_embed.stem.0', 64, 3, 7, 7, bias=False)
    shapes |= batch_norm('patch_embed.stem.1', 64) | {'pos_embed': (1, side * side, width)}
    for i in range(stem_convs):
        shapes |= layer(f'patch_embed.convs.{3 * i}', 64, 64, 3, 3, bias=False)
        shapes |= batch_norm(f'patch_embed.convs.{3 * i + 1}', 64)
    shapes |= layer('patch_embed.projection', width, 64, 8, 8)
    inner, rank = expand * width, math.ceil(width / 16)
    block = norm('norm', width) | layer('mamba.in_proj', 2 * inner, width)
    block |= layer('mamba.conv2d', inner, 1, 7, 7) | layer('mamba.out_proj', width, inner)
    block |= layer('mamba.x_proj', rank + 2 * states, inner, bias=False)
    block |= layer('mamba.dt_proj', inner, rank)
    block |= {'mamba.A_log': (inner, states), 'mamba.D': (inner,)}
    block |= {'mamba.direction_Bs': (5, states)}
    for i in range(blocks):
        shapes |= under(f'layers.{i}.', block)
    if conv_behind_first:
        shapes |= layer('layers.0.dw.0', width, 1, 3, 3, bias=False)
        shapes |= batch_norm('layers.0.dw.1', width)
    shapes = under('backbone.', shapes | norm('ln1', width)) | layer('head.fc', classes, width)
    return random_weights(shapes)
