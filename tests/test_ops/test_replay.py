"""Operators that are launched again instead of run again; emulated where there is no GPU."""

import logging

import pytest
import torch
from cuda_emulation import HAS_COMPILER, emulate
from scan_inputs import make_inputs, make_ssm_inputs

from mmv2m.ops import (
    add_norm,
    channel_norm,
    directional_conv,
    directional_scan,
    directional_ssm,
    gated_linear,
    gelu_linear,
)

pytest.importorskip('triton')
from mmv2m.ops.cuda_backend.conv import convs_backward, convs_forward  # noqa: E402
from mmv2m.ops.cuda_backend.launch import Prepared, launch  # noqa: E402
from mmv2m.ops.cuda_backend.replay import replayed  # noqa: E402
from mmv2m.ops.cuda_backend.sums import sum_rows  # noqa: E402
from mmv2m.ops.triton_backend.launch import tell  # noqa: E402

ON_GPU = torch.cuda.is_available()
DEVICE = 'cuda' if ON_GPU else 'cpu'

pytestmark = pytest.mark.skipif(not (ON_GPU or HAS_COMPILER), reason='neither GPU nor g++')


class Emulated(Prepared):
    """A launch on the emulation."""

    def __init__(self, call):
        super().__init__(0, (*call.grid, 1), call.threads, call.shared_bytes, call.arguments)
        self.call = call

    def run(self, stream):
        emulate(self.call, torch.device('cpu'))


def emulated_launch(call, device):
    prepared = Emulated(call)
    prepared.run(0)
    tell(lambda: prepared)


LAUNCH = launch if ON_GPU else emulated_launch


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)


def gradients(tensors, directions):
    """Several launches, buffers between them, structures as arguments, and an output of None."""
    x, gate, weight, bias, grad_y = tensors
    y = convs_forward(x, gate, weight, bias, directions, launch=LAUNCH)
    grad_x, grad_gate, *partial = convs_backward(
        grad_y, x, gate, weight, bias, directions, launch=LAUNCH
    )
    return y, grad_x, grad_gate, *sum_rows(partial, launch=LAUNCH)


def draw(seed, channels=8, bias=True, odd=False):
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        numbers = torch.randn(*size, generator=generator)
        storage = torch.empty(numbers.numel() + odd, device=DEVICE)
        return storage[int(odd) :].copy_(numbers.flatten()).view(size)

    x, gate = normal(1, 2, 3, 2 * channels).chunk(2, -1)
    weight = normal(channels, 4)
    return x, gate, weight, normal(channels) if bias else None, normal(2, 1, 2, 3, channels)


def check(run, *args):
    for result, expected in zip(run(*args), gradients(*args), strict=True):
        assert (result is None) == (expected is None)
        assert result is None or torch.equal(result, expected)


def test_other_tensors_of_the_same_layout():
    counted = Counted(gradients)
    run = replayed(counted)
    directions = ['right', 'up']
    for seed in range(4):
        check(run, draw(seed), directions)
    assert counted.calls == 2
    kept = run(draw(0), directions)
    check(run, draw(1), directions)
    torch.testing.assert_close(kept, gradients(draw(0), directions), rtol=0, atol=0)


@pytest.mark.parametrize(
    'change', [dict(channels=12), dict(bias=False), dict(odd=True)], ids=lambda c: next(iter(c))
)
def test_another_layout_is_another_run(change):
    counted = Counted(gradients)
    run = replayed(counted)
    for _ in range(2):
        check(run, draw(0), ['left', 'up'])
        check(run, draw(0, **change), ['left', 'up'])
        check(run, draw(0), ['left', 'down'])
    assert counted.calls == 6
    check(run, draw(1, **change), ['left', 'up'])
    assert counted.calls == 6


@pytest.mark.parametrize(
    'function',
    [
        lambda tensors, directions: gradients(tensors, directions)[0] + 1,
        lambda tensors, directions: gradients(tensors, directions)[0][:1],
        lambda tensors, directions: tensors[0],
        lambda tensors, directions: gradients(tensors, directions)[:1] * 2,
    ],
    ids=['computes', 'part', 'input', 'twice'],
)
def test_what_cannot_be_repeated_runs_as_it_is(function):
    counted = Counted(function)
    run = replayed(counted)
    for seed in range(4):
        given = draw(seed), ['right', 'down']
        torch.testing.assert_close(run(*given), function(*given), rtol=0, atol=0)
    assert counted.calls == 4


def test_one_tensor_given_twice():
    """Nothing is learned from a call that does not tell its arguments apart."""
    run = replayed(lambda x, y: convs_forward(x, None, y[0, 0], None, ['right'], launch=LAUNCH))
    square = torch.randn(1, 4, 4, 4, device=DEVICE)
    for _ in range(3):
        run(square, square)
    other = torch.randn(1, 4, 4, 4, device=DEVICE)
    expected = convs_forward(square, None, other[0, 0], None, ['right'], launch=LAUNCH)
    assert torch.equal(run(square, other), expected)


@pytest.mark.skipif(not ON_GPU, reason='no GPU')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_all_operators_are_replayed(dtype, caplog):
    def leaves(tensors):
        return {
            name: value.to(DEVICE).requires_grad_() if torch.is_tensor(value) else value
            for name, value in tensors.items()
        }

    x, z = torch.randn(2, 1, 2, 3, 8).to(dtype)
    weight, norm_weight = torch.randn(4, 8), torch.ones(8)
    calls = [
        (directional_ssm, leaves(make_ssm_inputs(dtype=dtype))),
        (directional_scan, leaves(make_inputs((1, 2, 3, 8), 4, dtype))),
        (directional_conv, leaves(dict(x=x, weight=torch.randn(8, 4), bias=None))),
        (gated_linear, leaves(dict(x=x, z=z, weight=weight))),
        (gelu_linear, leaves(dict(x=x, weight=weight, bias=weight[:, 0]))),
        (channel_norm, leaves(dict(x=x, weight=norm_weight, bias=norm_weight.clone()))),
        (add_norm, leaves(dict(branch=x, residual=z.float(), weight=norm_weight))),
    ]
    with caplog.at_level(logging.DEBUG, 'mmv2m'):
        for function, arguments in calls:
            for _ in range(3):
                y = function(**arguments, backend='cuda')
                outputs = y if isinstance(y, tuple) else (y,)
                torch.autograd.backward(outputs, [torch.randn_like(t) for t in outputs])
    assert not [record for record in caplog.messages if 'is not replayed' in record]
