"""Kernels that add to what is there, against float64; emulated or interpreted without a GPU."""

import naive
import pytest
import torch
import torch.nn.functional as F
from cuda_emulation import DEVICE, HAS_COMPILER, ON_GPU, launches, nothing_launched
from scan_inputs import directions_of

from mmv2m.ops.reference import directional_conv_reference

pytest.importorskip('triton')
from cuda_scans import TOLERANCE, cut_into_segments, make_problem  # noqa: E402

from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.gpu.conv_targets import ConvTargets  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.runtime.launch import Launch  # noqa: E402

CORNERS = ['right', 'left', 'down', 'up']
KERNELS = ['triton', 'cuda'] if ON_GPU or HAS_COMPILER else ['triton']
SETS = dict(triton=Kernels(triton), cuda=Kernels(cuda), both=Kernels(cuda, triton))
DTYPES = [torch.float32, torch.bfloat16]


def tolerance(kernels, dtype):
    """Triton's interpreter cuts bfloat16 off instead of rounding it."""
    cuts = kernels == 'triton' and dtype == torch.bfloat16 and not ON_GPU
    return 3 * TOLERANCE[dtype] if cuts else TOLERANCE[dtype]


def scan_into(kernels, inputs, into, **options):
    return SETS[kernels].scans_forward(inputs, add_to=into, **options)


def compare_scan(kernels, shape, directions, dtype, gated=False, states=3, **kinds):
    inputs, _, truth = make_problem(shape, states, directions, True, dtype, gated, **kinds)
    before = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(DEVICE, dtype)
    into = before.clone()
    y = scan_into(kernels, inputs, into, sums=True)
    assert y is into
    before = before.cpu().double()
    expected = truth['y'] + (before * naive.silu(inputs.z.cpu().double()) if gated else before)
    assert naive.relative_error(y.cpu(), expected) < tolerance(kernels, dtype)


@pytest.mark.parametrize('kernels', KERNELS)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(
    ('shape', 'directions'),
    [((2, 3, 7, 37), CORNERS), ((1, 1, 1, 3), ['up']), ((1, 5, 2, 6), ['left', 'down', 'right'])],
)
def test_scan(shape, directions, dtype, kernels):
    compare_scan(kernels, shape, directions, dtype, B=None)


@pytest.mark.parametrize('kernels', KERNELS)
def test_scan_of_lanes_whose_sums_are_not_kept(kernels):
    compare_scan(kernels, (1, 2, 33, 5), ['right', 'left', 'up'], torch.float32, C=None)


@pytest.mark.parametrize('kernels', KERNELS)
def test_scan_of_segments(kernels, monkeypatch):
    cut_into_segments(monkeypatch, 6)
    monkeypatch.setattr('mmv2m.ops.triton.segments.LEAST_STEPS', 5)
    compare_scan(kernels, (2, 1, 19, 6), ['right', 'left'], torch.float32)


@pytest.mark.parametrize('kernels', KERNELS)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(
    ('shape', 'directions'),
    [
        ((1, 2, 9, 6), ['left']),
        ((2, 3, 7, 37), CORNERS),
        ((1, 5, 2, 6), ['left', 'down', 'right']),
        ((1, 33, 2, 5), ['up', 'down']),  # whose sums are not kept
    ],
)
def test_scan_with_a_gate(shape, directions, dtype, kernels):
    """The gate is for the sum, and for what it is added to."""
    compare_scan(kernels, shape, directions, dtype, gated=True)


def test_scan_that_triton_serves():
    compare_scan('both', (1, 2, 5, 6), ['left', 'up'], torch.float32, states=33)


@pytest.mark.parametrize('kernels', KERNELS)
def test_scan_of_no_tokens(kernels):
    inputs, *_ = make_problem((0, 2, 3, 4), 3, ['right'], True, torch.float32)
    into = torch.empty(0, 2, 3, 4, device=DEVICE)
    assert scan_into(kernels, inputs, into, sums=True) is into


@pytest.mark.parametrize('kernels', KERNELS)
@pytest.mark.parametrize(
    ('into', 'options', 'message'),
    [
        (torch.zeros(2, 1, 2, 5, 6), dict(sums=False), 'only sums'),
        (torch.zeros(1, 2, 5, 3), dict(sums=True), r'shape \(1, 2, 5, 6\)'),
        (torch.zeros(1, 2, 5, 6).half(), dict(sums=True), 'float32'),
        (torch.zeros(1, 2, 5, 6), dict(sums=True, dtype=torch.float16), 'float16'),
        (torch.zeros(1, 2, 5, 12, device=DEVICE)[..., :6], dict(sums=True), 'contiguous'),
    ],
)
def test_scan_into_what_does_not_fit(into, options, message, kernels):
    inputs, *_ = make_problem((1, 2, 5, 6), 3, ['left', 'up'], True, torch.float32)
    with pytest.raises(ValueError, match=message), nothing_launched():
        scan_into(kernels, inputs, into.to(DEVICE), **options)


class ConvProblem:
    """A convolution's backward pass, and what its gradients are left in.

    ``there`` are letters of those there is something for: of the map (x) and of its gate (g). That
    is half of a wider map if they are ``apart``.
    """

    def __init__(self, grid, channels, directions, dtype, gated, shared, there, **how):
        self.adds, self.apart = how.get('adds', True), how.get('apart', False)
        generator = torch.Generator().manual_seed(0)

        def normal(*size):
            return torch.randn(*size, generator=generator)

        maps = () if shared else (len(directions),)
        x = normal(*maps, *grid, channels).to(dtype)
        gate = normal(*grid, channels).to(dtype) if gated else None
        self.inputs = [x, gate, normal(channels, 4) / 2, normal(channels)]
        self.grad_y = normal(len(directions), *grid, channels).to(dtype)
        self.directions, self.dtype = directions, dtype
        wanted = (('x', x), ('g', gate))
        self.before = [normal(*t.shape).to(dtype) if n in there else None for n, t in wanted]

    def run(self, backward):
        """Gradients of the map and the gate, and of the weight and the bias."""
        given = [None if t is None else t.to(DEVICE) for t in self.inputs]
        targets = ConvTargets(*map(self._place, self.before), self.adds)
        ways = directions_of(*self.directions)
        *grads, weight, bias = backward(self.grad_y.to(DEVICE), *given, ways, targets=targets)
        assert all(t is None or t is grad for t, grad in zip(targets[:2], grads, strict=True))
        return *grads, weight.sum(0), bias.sum(0)

    def _place(self, before):
        if before is None:
            return None
        wide = torch.cat([before] * (2 if self.apart else 1), -1).to(DEVICE)
        return wide[..., -before.shape[-1] :]

    def truth(self):
        leaves = [None if t is None else t.double().requires_grad_() for t in self.inputs]
        x, gate, weight, bias = leaves
        opened = 1 if gate is None else F.silu(gate)
        outputs = [
            directional_conv_reference((x if x.dim() == 4 else x[k]) * opened, weight, bias, name)
            for k, name in enumerate(self.directions)
        ]
        torch.stack(outputs).backward(self.grad_y.double())
        before = [*(self.before if self.adds else (None, None)), None, None]
        return [
            None if leaf is None else leaf.grad + (0 if there is None else there.double())
            for leaf, there in zip(leaves, before, strict=True)
        ]

    def compare(self, kernels):
        """Returns what was launched in CUDA C++."""
        with launches() as calls:
            gradients = self.run(SETS[kernels].convs_backward)
        for grad, expected in zip(gradients, self.truth(), strict=True):
            assert (grad is None) == (expected is None)
            if grad is not None:
                error = naive.relative_error(grad.cpu(), expected)
                assert error < tolerance(kernels, self.dtype)
        return [call for call in calls if isinstance(call, Launch)]


@pytest.mark.parametrize('kernels', KERNELS)
@pytest.mark.parametrize(
    ('grid', 'channels', 'directions', 'dtype'),
    [
        ((2, 3, 9), 37, CORNERS, torch.float32),
        ((2, 3, 9), 37, CORNERS, torch.bfloat16),
        ((1, 1, 1), 3, ['up'], torch.float32),
        ((1, 5, 2), 64, ['left', 'down', 'right'], torch.bfloat16),
    ],
)
@pytest.mark.parametrize(
    ('gated', 'shared', 'there'),
    [(False, True, 'x'), (True, False, 'g'), (True, True, 'xg')],
    ids=['first half', 'second half', 'both'],
)
def test_conv(gated, shared, there, grid, channels, directions, dtype, kernels):
    """All that directions share: every launch adds."""
    calls = ConvProblem(grid, channels, directions, dtype, gated, shared, there).compare(kernels)
    assert kernels == 'triton' or calls
    assert all(call.arguments[-1].adds for call in calls)


@pytest.mark.parametrize('kernels', KERNELS)
@pytest.mark.parametrize(
    ('channels', 'dtype'), [(37, torch.bfloat16), (64, torch.bfloat16), (64, torch.float32)]
)
@pytest.mark.parametrize('adds', [True, False])
@pytest.mark.parametrize(('gated', 'shared', 'there'), [(False, True, 'x'), (True, False, 'g')])
def test_conv_into_half_of_a_map(gated, shared, there, adds, channels, dtype, kernels):
    """Added to what is there, or in its place, by the kernels."""
    problem = ConvProblem(
        *((1, 3, 5), channels, CORNERS, dtype, gated, shared, there), adds=adds, apart=True
    )
    calls = problem.compare(kernels)
    assert kernels == 'triton' or [call.arguments[-1].adds for call in calls][0] == adds


@pytest.mark.parametrize('kernels', KERNELS)
@pytest.mark.parametrize(
    ('gated', 'shared', 'there'),
    [
        *((True, True, there) for there in ('', 'x', 'g')),
        *((True, False, there) for there in ('', 'x', 'xg')),
        *((False, True, ''), (False, False, ''), (False, False, 'x')),
    ],
)
def test_conv_with_other_gradients(gated, shared, there, kernels):
    """Not all that directions share, or more."""
    problem = ConvProblem((1, 3, 7), 40, ['left', 'up'], torch.bfloat16, gated, shared, there)
    problem.compare(kernels)


@pytest.mark.parametrize('kernels', KERNELS)
def test_conv_into_odd_addresses(kernels):
    """The gradient of the gate starts two bytes behind where four could be stored at once."""
    problem = ConvProblem((1, 3, 7), 64, CORNERS, torch.bfloat16, True, False, 'g')

    def backward(*args, targets):
        gate = targets.gate
        storage = torch.empty(gate.numel() + 1, dtype=gate.dtype, device=DEVICE)
        odd = storage[1:].copy_(gate.flatten()).view_as(gate)
        result = SETS[kernels].convs_backward(*args, targets=ConvTargets(None, odd, True))
        assert result[1] is odd
        gate.copy_(odd)
        return result[0], gate, *result[2:]

    for grad, expected in zip(problem.run(backward), problem.truth(), strict=True):
        error = naive.relative_error(grad.cpu(), expected)
        assert error < tolerance(kernels, torch.bfloat16)


@pytest.mark.parametrize('kernels', KERNELS)
@pytest.mark.parametrize(
    ('into', 'message'),
    [
        ((None, torch.zeros(1, 2, 3, 4)), 'the gradient of a gate, but no gate'),
        ((torch.zeros(2, 1, 2, 3, 4), None), r'shape \(1, 2, 3, 4\)'),
        ((torch.zeros(1, 2, 3, 4).bfloat16(), None), 'float32'),
        ((torch.zeros(1, 3, 2, 4).transpose(1, 2), None), 'tokens at equal distances'),
    ],
)
def test_conv_into_what_does_not_fit(into, message, kernels):
    problem = ConvProblem((1, 2, 3), 4, ['left', 'up'], torch.float32, False, True, '')
    targets = ConvTargets(*(None if t is None else t.to(DEVICE) for t in into))
    given = [None if t is None else t.to(DEVICE) for t in (problem.grad_y, *problem.inputs)]
    with pytest.raises(ValueError, match=message):
        SETS[kernels].convs_backward(*given, directions_of(*problem.directions), targets=targets)
