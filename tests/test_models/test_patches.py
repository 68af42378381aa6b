import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmv2m.models.layers import ConvStem, Downsample, PatchMap, SameDtypeLayerNorm

NORM = dict(type='SameDtypeLN')


@pytest.mark.parametrize('size', [(32, 32), (30, 41), (7, 9), (1, 2)])
def test_stem_makes_tokens_of_4_pixels(size):
    y = ConvStem(3, 8, NORM)(torch.rand(2, 3, *size))
    assert y.shape == (2, -(-size[0] // 4), -(-size[1] // 4), 8)
    assert y.is_contiguous()


def test_stem_stays_in_half_precision_under_autocast(monkeypatch):
    """Both convolutions get half precision, and as many channels as tensor cores convolve."""
    convolve, given = F.conv2d, []
    monkeypatch.setattr(
        F, 'conv2d', lambda x, *args, **kw: given.append(x) or convolve(x, *args, **kw)
    )
    with torch.autocast('cpu', torch.bfloat16):
        ConvStem(3, 16, NORM)(torch.rand(1, 3, 32, 32))
    assert [(x.dtype, x.shape[1]) for x in given] == [(torch.bfloat16, 8)] * 2
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in given)


@pytest.mark.parametrize('channels', [3, 8, 12])
def test_zeros_beside_an_image_change_nothing(channels):
    layer, grad_y = Downsample(channels, 8, NORM), torch.randn(2, 5, 5, 8)
    x, results = torch.rand(2, 9, 10, channels), []
    for on in (False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=on):
            y = layer(x)
        results.append((y.float(), *torch.autograd.grad(y, list(layer.parameters()), grad_y.to(y))))
    for exact, half in zip(*results, strict=True):
        assert (half - exact).norm() < 0.02 * exact.norm()


def test_downsampling_is_a_convolution_and_a_norm_of_the_same_map():
    layer, x = Downsample(4, 6, NORM), torch.randn(2, 5, 8, 4)
    y = layer(x)
    convolved = F.conv2d(x.permute(0, 3, 1, 2), layer.conv.weight, layer.conv.bias, 2, 1)
    assert torch.allclose(y, F.layer_norm(convolved.permute(0, 2, 3, 1), (6,)), atol=1e-5)
    assert y.is_contiguous()


@pytest.mark.parametrize('norm_cfg', [NORM, dict(type='LN')])
def test_the_convolution_reads_the_map_itself(norm_cfg, monkeypatch):
    seen, convolve = [], F.conv2d

    def watched(x, *args, **kwargs):
        seen.append(x.data_ptr())
        return convolve(x, *args, **kwargs)

    monkeypatch.setattr(F, 'conv2d', watched)
    layer, x = Downsample(4, 6, norm_cfg), torch.randn(2, 9, 8, 4)
    layer(x)
    assert seen == [x.data_ptr()]


@pytest.mark.parametrize('norm_cfg', [NORM, dict(type='LN')])
def test_on_a_cpu_larger_weights_than_the_map_are_not_copied(norm_cfg, monkeypatch):
    seen, convolve = [], F.conv2d

    def watched(x, weight, *args, **kwargs):
        seen.append((x.is_contiguous(), weight.data_ptr()))
        return convolve(x, weight, *args, **kwargs)

    layer, x = Downsample(4, 6, norm_cfg), torch.randn(9, 5, 3, 4)
    assert layer.conv.weight.numel() > x[0].numel()
    nn.init.normal_(layer.conv.bias)
    expected = layer.norm(layer.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    grad_y, parameters = torch.randn(expected.shape), list(layer.parameters())
    grads = torch.autograd.grad(expected, parameters, grad_y)
    monkeypatch.setattr(F, 'conv2d', watched)
    y = layer(x)
    assert seen == [(True, layer.conv.weight.data_ptr())]
    assert y.is_contiguous()
    found = (y, *torch.autograd.grad(y, parameters, grad_y))
    torch.testing.assert_close(found, (expected, *grads), atol=1e-4, rtol=1e-4)


def test_autocast_brings_weights_into_the_order_of_maps(monkeypatch):
    seen, convolve = [], F.conv2d

    def watched(x, weight, *args, **kwargs):
        seen.append((weight.dtype, weight.is_contiguous(memory_format=torch.channels_last)))
        return convolve(x, weight, *args, **kwargs)

    monkeypatch.setattr(F, 'conv2d', watched)
    layer = Downsample(8, 6, NORM)
    with torch.autocast('cpu', torch.bfloat16):
        layer(torch.randn(2, 9, 9, 8)).sum().backward()
    assert seen == [(torch.bfloat16, True)]
    grad = layer.conv.weight.grad
    assert grad.dtype == torch.float32 and grad.is_contiguous()


def test_the_convolutions_bias_may_be_the_norms_to_add():
    ours, theirs = Downsample(4, 6, NORM), Downsample(4, 6, dict(type='LN'))
    nn.init.normal_(ours.conv.bias)
    theirs.load_state_dict(ours.state_dict())
    x, grad_y = torch.randn(2, 5, 8, 4), torch.randn(2, 3, 4, 6)
    results = []
    for layer in (ours, theirs):
        y = layer(x)
        results.append((y, *torch.autograd.grad(y, list(layer.parameters()), grad_y)))
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('size', [(16, 24), (15, 17)])
def test_patches_are_contiguous_rows(size):
    layer, x = PatchMap(3, 5, 8, 16), torch.randn(2, 3, *size)
    y = layer(x)
    padded = F.pad(x, (0, -size[1] % 8, 0, -size[0] % 8))
    expected = F.conv2d(padded, layer.projection.weight, layer.projection.bias, 8)
    assert torch.allclose(y, expected.permute(0, 2, 3, 1), atol=1e-5)
    assert y.is_contiguous()


def test_patches_under_autocast():
    layer, x = PatchMap(3, 6, 8, 32), torch.rand(2, 3, 32, 24)
    with torch.autocast('cpu', torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.float(), layer(x), atol=2e-2)
    y.sum().backward()
    assert layer.projection.weight.grad.dtype == torch.float32


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_norm_keeps_the_dtype(dtype):
    norm, reference = SameDtypeLayerNorm(6), nn.LayerNorm(6)
    for a, b in zip(norm.parameters(), reference.parameters(), strict=True):
        a.data = b.data = torch.randn(6)
    x = torch.randn(3, 6).to(dtype).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        y = norm(x)
    assert y.dtype == dtype
    exact = reference.double()(x.double())
    tolerance = {torch.bfloat16: 3e-2, torch.float16: 4e-3}.get(dtype, 1e-5)
    assert torch.allclose(y.double(), exact, atol=tolerance, rtol=tolerance)
    y.sum().backward()
    assert x.grad.dtype == dtype
    assert norm.weight.grad.dtype == torch.float32
