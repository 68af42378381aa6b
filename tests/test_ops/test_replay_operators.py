"""Operators that are replayed as a whole, and their numbers; emulated where there is no GPU."""

import ctypes
import logging
from functools import partial

import naive
import pytest
import torch
from cuda_emulation import DEVICE, ON_GPU, needs_a_device
from replays import Counted, draw
from scan_inputs import directions_of, make_inputs, make_ssm_inputs
from torch.utils._python_dispatch import _disable_current_modes

from mmv2m.ops import (
    add_norm,
    channel_norm,
    directional_conv,
    directional_scan,
    directional_ssm,
    gated_linear,
    mlp,
)

pytest.importorskip('triton')
from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.gpu import corner_ssm, ssm  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.gpu.operators import Operators  # noqa: E402
from mmv2m.ops.runtime.launch import Prepared  # noqa: E402
from mmv2m.ops.runtime.replay import replayed  # noqa: E402

pytestmark = needs_a_device

KERNELS = Kernels(cuda, triton)


class Interpreted(Prepared):
    """A launch of Triton's on its interpreter."""

    def __init__(self, kernel, grid, named):
        self.kernel, self.grid, self.named = kernel, grid, named
        tensors = {name: value for name, value in named.items() if torch.is_tensor(value)}
        self.addresses = {name: ctypes.c_void_p(t.data_ptr()) for name, t in tensors.items()}
        super().__init__(self.interpret, list(self.addresses.values()))

    def interpret(self, stream, pointers, extra):
        numbers = {
            name: torch.frombuffer(
                (ctypes.c_char * self.named[name].itemsize).from_address(pointer.value),
                dtype=self.named[name].dtype,
            )
            for name, pointer in self.addresses.items()
        }
        self.kernel[self.grid](**self.named | numbers)
        return 0


@pytest.fixture
def triton_launches(monkeypatch):
    """Without a GPU, Triton's launches can be told of and repeated too."""
    if ON_GPU:
        return
    from triton.runtime.interpreter import InterpretedFunction

    on_grid = InterpretedFunction.__getitem__

    def interpreted(kernel, grid):
        def run(*args, **options):
            with _disable_current_modes():  # what the interpreter does is not the operator's
                on_grid(kernel, grid)(*args, **options)
            return kernel

        return run

    monkeypatch.setattr(InterpretedFunction, '__getitem__', interpreted)
    monkeypatch.setattr('mmv2m.ops.triton.launch.prepare_triton', Interpreted)


def reference_gradients(grad_y, tensors, options):
    leaves = [None if t is None else t.double().requires_grad_() for t in tensors]
    *options, log_A = options
    y = directional_ssm(*leaves, *options, backend='reference', log_A=log_A)
    y.backward(grad_y.double())
    return y, *(None if leaf is None else leaf.grad for leaf in leaves)


@pytest.mark.parametrize(
    ('projects', 'maps', 'conv'),
    [('both', 0, False), ('both', 0, True), ('output', 2, False), ('input', 2, True)],
)
def test_ssm_of_long_lanes(projects, maps, conv, triton_launches, monkeypatch):
    """In segments, and with the logarithm of A, as VMamba has it: launches of both kinds alone."""
    monkeypatch.setattr('mmv2m.ops.cuda.scan_edges.LEAST_STEPS', 6)
    monkeypatch.setattr('mmv2m.ops.cuda.scan_edges.LEAST_SEGMENTS', 2)
    forward = Counted(partial(ssm.ssm_forward, KERNELS))
    backward = Counted(partial(ssm.ssm_backward, KERNELS))
    run, run_back = replayed(forward), replayed(backward)
    inputs = make_ssm_inputs((1, 1, 13), 6, states=3, maps=maps, projects=projects, conv=conv)
    inputs['A'] = (-inputs['A']).log()
    tensors = [None if t is None else t.to(DEVICE) for t in inputs.values()]
    ways = directions_of('left', 'right')[: maps or 1]
    options = (ways, projects, 'none' if maps else 'sum', True)
    generator = torch.Generator().manual_seed(2)
    for turn in range(3):
        tensors = [None if t is None else t * 0.9**turn for t in tensors]
        (y,) = run(tensors, *options)
        grad_y = torch.randn(y.shape, generator=generator).to(DEVICE)
        found = (y, *run_back(grad_y, tensors, *options))
        truth = reference_gradients(grad_y, tensors, options)
        for result, expected in zip(found, truth, strict=True):
            assert (result is None) == (expected is None)
            assert result is None or naive.relative_error(result, expected) < 1e-5
    assert (forward.calls, backward.calls) == (2, 2)


@pytest.mark.parametrize(
    'options',
    [('input', 'none'), ('output', 'sum', False, None, False, True)],
    ids=['maps', 'sum through the gate'],
)
def test_ssm_in_half_precision(options, monkeypatch):
    """Convolution and projection in one launch, whose arguments are structures of pointers."""
    monkeypatch.setattr('mmv2m.ops.cuda.conv_projection.WARPS', {8: 1})
    monkeypatch.setattr('mmv2m.ops.cuda.conv_projection.LEAST_UNITS', 0)
    plain = partial(ssm.ssm_forward, KERNELS)
    counted = Counted(plain)
    run = replayed(counted)
    inputs = make_ssm_inputs((1, 2, 5), 8, projects=options[0], dtype=torch.bfloat16)
    options = (directions_of('left', 'up'), *options)
    for turn in range(4):
        tensors = [t.to(DEVICE) * 0.9**turn for t in inputs.values()]
        assert torch.equal(*(ssm_forward(tensors, *options)[0] for ssm_forward in (run, plain)))
    assert counted.calls == 2


def test_ssm_that_keeps_and_adds(triton_launches):
    """As one of several groups runs: what is added to is no result, what is kept is one."""
    forward = Counted(partial(ssm.ssm_forward, KERNELS))
    backward = Counted(partial(ssm.ssm_backward, KERNELS))
    run, run_back = replayed(forward), replayed(backward)
    inputs = make_ssm_inputs((2, 3, 5), 16, states=1, dtype=torch.bfloat16)
    options = (directions_of('left', 'right'), 'input', 'sum', False)
    for turn in range(3):
        tensors = [t.to(DEVICE) * 0.9**turn for t in inputs.values()]
        y, grad_x, grad_gate = (torch.full_like(tensors[0], 0.5).contiguous() for _ in range(3))
        none, *kept = run(tensors, *options, y, True)
        grad_y = torch.ones_like(y)
        nones = run_back(grad_y, tensors, *options, kept, (grad_x, grad_gate, True))[:2]
        assert (none, *nones) == (None, None, None)
        truth = reference_gradients(grad_y, tensors, options)
        for result, expected in zip((y, grad_x, grad_gate), truth, strict=False):
            assert naive.relative_error(result, expected + 0.5) < (1e-2 if ON_GPU else 3e-2)
    assert (forward.calls, backward.calls) == (2, 2)


@pytest.mark.parametrize('gated', [True, False])
def test_both_halves_of_all_groups_are_one_run(gated, triton_launches):
    """Whose scratch buffers share their places, and come back in them while they are recorded."""
    functions = (corner_ssm.corner_ssm_forward, corner_ssm.corner_ssm_backward)
    plain = [partial(function, KERNELS) for function in functions]
    counted = [Counted(function) for function in plain]
    run = [replayed(function) for function in counted]
    options = ('right-down,left-up;up-left', 'sum', False)
    halves = [make_ssm_inputs((1, 2, 5), 8, states=1, projects=p) for p in ('input', 'output') * 2]
    for turn in range(3):
        x, gate = (halves[0][name].to(DEVICE) * 0.9**turn for name in ('x', 'gate'))
        gate = gate if gated else None
        parameters = [
            t.to(DEVICE) + 0.1 * i for i, h in enumerate(halves) for t in [*h.values()][2:]
        ]
        results = []
        for forward, backward in (plain, run):
            y, *kept = forward(x, gate, parameters, *options, True)
            grads = backward(y.cos(), kept, x, gate, parameters, *options, (None, None))
            results.append((y, *kept, *grads, *forward(x, gate, parameters, *options, False)))
        for found, expected in zip(*results, strict=True):
            assert (found is None) == (expected is None)
            assert found is None or torch.equal(found, expected)
    assert [function.calls for function in counted] == [4, 2]  # for training and not, and back


def test_gradients_of_ssm_in_half_precision(triton_launches):
    """What comes through the projection is the convolution's backward pass's to add."""
    counted = Counted(partial(ssm.ssm_backward, KERNELS))
    run = replayed(counted)
    inputs = make_ssm_inputs((1, 3, 5), 40, dtype=torch.bfloat16, maps=2, projects='output')
    options = (directions_of('left', 'right'), 'output', 'sum', False)
    for turn in range(3):
        tensors = [t.to(DEVICE) * 0.9**turn for t in inputs.values()]
        grad_y = torch.ones_like(tensors[0][0])
        found = run(grad_y, tensors, *options)
        _, *truth = reference_gradients(grad_y, tensors, options)
        for result, expected in zip(found, truth, strict=True):
            assert naive.relative_error(result, expected) < (1e-2 if ON_GPU else 3e-2)
    assert counted.calls == 2


@pytest.mark.parametrize('maps', [0, 2])
def test_convolutions_of_several_directions(maps):
    kernels, counted = Kernels(cuda, triton), []

    def prepare(function, gradients=None):
        counted.append(Counted(function))
        return replayed(counted[-1])

    plain, again = Operators(kernels), Operators(kernels, prepare)
    for seed in range(4):
        x, _, weight, bias, grad_y = draw(seed)
        x = torch.stack([x + k for k in range(maps)]) if maps else x
        conv = (x, weight, bias, 'left,down')
        assert torch.equal(again.convs_forward(*conv), plain.convs_forward(*conv))
        pair = (operators.convs_backward(grad_y, *conv) for operators in (again, plain))
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))
    assert [one.calls for one in counted if one.calls] == [2, 2]


@pytest.mark.skipif(not ON_GPU, reason='no GPU')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_all_operators_are_replayed(dtype, caplog):
    def leaves(tensors):
        return {
            name: value.to(DEVICE).requires_grad_() if torch.is_tensor(value) else value
            for name, value in tensors.items()
        }

    convolve_all = partial(directional_conv, direction=('right', 'left', 'up'))
    x, z = torch.randn(2, 1, 2, 3, 8).to(dtype)
    weight, norm_weight = torch.randn(4, 8), torch.ones(8)
    out = dict(out_weight=weight.t().contiguous(), out_bias=weight[0])
    norms = {name: norm_weight.clone() for name in ('weight', 'bias', 'offset')}
    sequence = make_ssm_inputs((1, 1, 3136), projects='both', dtype=dtype, conv=False)
    sequence.update(A=(-sequence['A']).log(), x=sequence['x'].contiguous())
    calls = [
        (directional_ssm, leaves(make_ssm_inputs(dtype=dtype))),
        (directional_ssm, leaves(make_ssm_inputs(channels=8, dtype=dtype))),
        (directional_ssm, dict(leaves(sequence), projects='both', log_A=True)),
        (directional_scan, leaves(make_inputs((1, 2, 3, 8), 4, dtype))),
        (directional_conv, leaves(dict(x=x, weight=torch.randn(8, 4), bias=None))),
        (convolve_all, leaves(dict(x=x, weight=torch.randn(8, 4), bias=weight[0]))),
        (gated_linear, leaves(dict(x=x, z=z, weight=weight))),
        (mlp, leaves(dict(x=x, weight=weight, bias=weight[:, 0]) | out)),
        (channel_norm, leaves(norms | dict(x=x))),
        (add_norm, leaves(dict(branch=x, residual=z.float(), weight=norm_weight))),
    ]
    with caplog.at_level(logging.DEBUG, 'mmv2m'):
        for function, arguments in calls:
            for _ in range(3):
                y = function(**arguments, backend='cuda')
                outputs = y if isinstance(y, tuple) else (y,)
                torch.autograd.backward(outputs, [torch.randn_like(t) for t in outputs])
    assert not [record for record in caplog.messages if 'is not replayed' in record]
