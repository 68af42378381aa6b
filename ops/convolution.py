"""Two-dimensional convolutions that torch.compile does not copy for channels-last maps."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .operator import differentiate, operator
from .precision import like_products

__all__ = ['conv2d']

Pair = tuple[int, ...]

LAST = torch.channels_last


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Apply :func:`torch.nn.functional.conv2d`, as one node of its own under torch.compile.

    Without that node, Inductor finds PyTorch's convolution and changes memory formats. It assumes
    that every tensor with four axes in front of the last convolution is (B, C, H, W), and copies
    those that the backward pass reads into PyTorch's channels-last format. For a (B, H, W, C) map,
    the copy has its rows innermost, so the backward pass begins with a copy back. With 128 images,
    V2M-S* would copy 80 maps, about 4 GB, twice in each training step.

    Outside of torch.compile, and in torch.export, this is PyTorch's function.

    Args:
        x: (B, C, H, W), a channels-last map with its axes permuted. Under autocast, ``x``,
            ``weight`` and ``bias`` are read in autocast's dtype.
        weight: (D, C / groups, kernel height, kernel width).
        bias: (D,), or None.
        stride: Pixels from one output to the next, along H and W.
        padding: Zeros on either side, along H and W.
        dilation: Pixels from one tap to the next, along H and W.
        groups: Groups of channels.

    Returns:
        (B, D, H', W'). As a node of its own, it is in PyTorch's channels-last memory format.
    """
    options = stride, padding, dilation, groups
    if not torch.compiler.is_compiling() or _is_exporting():
        return F.conv2d(x, weight, bias, *options)
    x, weight = like_products(x), like_products(weight)
    return _convolution(x, weight, None if bias is None else like_products(bias), *options)


@torch.compiler.assume_constant_result  # if it were traced, torch.compile would make it True
def _is_exporting() -> bool:
    return torch.compiler.is_exporting()


def _like_convolved(*args: Any) -> Tensor:
    return torch.empty_like(F.conv2d(*args), dtype=args[0].dtype, memory_format=LAST)


@operator('convolution', _like_convolved)
def _convolution(*args: Any) -> Tensor:
    return F.conv2d(*args).contiguous(memory_format=LAST)


def _like_gradients(grad_y: Tensor, x: Tensor, weight: Tensor, *options: Any) -> list[Tensor]:
    *_, of_x, of_bias = options
    read = (x, weight) if of_x else (weight,)
    grads = [torch.empty(p.shape, dtype=p.dtype, device=p.device, memory_format=LAST) for p in read]
    return [*grads, weight.new_empty(weight.shape[0])] if of_bias else grads


@operator('convolution_backward', _like_gradients)
def _convolution_backward(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    of_x: bool,
    of_bias: bool,
) -> list[Tensor]:
    """Compute gradients of ``x`` if asked for, of the weight, and of the bias if asked for."""
    of_input, of_weight, of_shift = torch.ops.aten.convolution_backward(
        *(grad_y, x, weight, [weight.shape[0]], stride, padding, dilation),
        *(False, [0, 0], groups, [of_x, True, of_bias]),
    )
    grads = [of_input, of_weight] if of_x else [of_weight]
    grads = [grad.contiguous(memory_format=LAST) for grad in grads]
    return [*grads, of_shift] if of_bias else grads


def _keep(ctx: Any, args: tuple[Any, ...], result: Tensor) -> None:
    x, weight, bias, *ctx.options = args
    ctx.save_for_backward(x, weight)
    # The gradient of ``x`` takes a convolution of its own, and a model's images need none.
    ctx.asked = x.requires_grad, bias is not None


def _backward(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
    of_x, of_bias = ctx.asked
    grads = _convolution_backward(grad_y, *ctx.saved_tensors, *ctx.options, of_x, of_bias)
    first, last = [] if of_x else [None], [] if of_bias else [None]
    # For an option that is a sequence, autograd expects a gradient for each element.
    nothing = [None] * (sum(map(len, ctx.options[:3])) + 1)
    return (*first, *grads, *last, *nothing)


differentiate(_convolution, _keep, _backward)
