"""The exact 2D recurrence in CUDA C++ against the float64 reference; emulated without a GPU."""

import naive
import pytest
import torch
from cuda_emulation import DEVICE, launches, launches_of_cuda, needs_a_device
from scan_inputs import make_coupled_ssm_inputs, nest_coupled_ssm

from mmv2m.ops import BACKENDS, CORNERS, coupled_scan, coupled_ssm
from mmv2m.ops.directions import write_corners
from mmv2m.ops.runtime.compile import compile_kernel

pytest.importorskip('triton')
from cuda_scans import TOLERANCE  # noqa: E402

from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.cuda.coupled_arguments import read_inputs  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.gpu.operators import Operators  # noqa: E402
from mmv2m.ops.runtime.replay import replayed  # noqa: E402

NAMES = ('x', 'delta', 'A', 'weight', 'B', 'C', 'D', 'delta_bias')


def make_arguments(shape, states, corners, dtype, skip=True, bias=True):
    """As a layer has them: rates below zero, and weights that keep the states from growing."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(size, generator=generator)

    channels, maps = shape[-1], (len(corners), *shape)
    weight = normal(2, 2, channels)
    return dict(
        x=normal(*maps).to(dtype),
        delta=normal(2, *maps).to(dtype),
        A=-normal(2, 2, channels, states).exp(),
        weight=weight / weight.abs().sum(1, keepdim=True),
        B=normal(*maps[:-1], 2, states).to(dtype),
        C=normal(*maps[:-1], 2, states).to(dtype),
        D=normal(channels) if skip else None,
        delta_bias=normal(2, channels) - 1 if bias else None,
    )


def on_kernels(arguments, grad_y, softplus, corners):
    """Output and gradients."""
    given = [None if t is None else t.to(DEVICE) for t in arguments.values()]
    given += [softplus, write_corners([[CORNERS[corner] for corner in corners]])]
    y = cuda.coupled_scans_forward(*given)
    gradients = cuda.coupled_scans_backward(grad_y.to(DEVICE), *given)
    return dict(y=y, **dict(zip(NAMES, gradients, strict=True)))


def on_reference(arguments, grad_y, softplus, corners):
    """The same in float64."""
    leaves = {
        name: None if t is None else t.double().requires_grad_() for name, t in arguments.items()
    }
    y = coupled_scan(**leaves, delta_softplus=softplus, corners=corners, backend='reference')
    y.backward(grad_y.double())
    return dict(y=y, **{n: None if t is None else t.grad for n, t in leaves.items()})


def compare(shape, states, corners, dtype=torch.float32, softplus=True, change=None, **options):
    arguments = make_arguments(shape, states, corners, dtype, **options)
    if change is not None:
        change(arguments)
    generator = torch.Generator().manual_seed(1)
    grad_y = torch.randn(arguments['x'].shape, generator=generator).to(dtype)
    found = on_kernels(arguments, grad_y, softplus, corners)
    truth = on_reference(arguments, grad_y, softplus, corners)
    for name, expected in truth.items():
        if expected is None:
            assert found[name] is None
            continue
        error = naive.relative_error(found[name].cpu(), expected)
        assert error < TOLERANCE[dtype], (name, error)
    return found


def cut(monkeypatch, columns, rows):
    """Strips have at most ``columns`` columns, and tiles ``rows`` rows."""
    monkeypatch.setattr(
        'mmv2m.ops.cuda.coupled_arguments.CoupledInputs.choose_strip', lambda *args: columns
    )
    monkeypatch.setattr('mmv2m.ops.cuda.coupled_backward.MOST_ROWS', rows)


@needs_a_device
@pytest.mark.parametrize('states', [1, 2, 16])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_four_corners(states, dtype):
    compare((2, 3, 5, 20), states, list(CORNERS), dtype)


@pytest.mark.parametrize(
    ('columns', 'units', 'strip'),
    [(14, 3072, 14), (64, 192, 16), (256, 24, 12), (512, 24, 16), (256, 1, 1)],
)
def test_width_of_strips(columns, units, strip):
    """Of an H200's 264 blocks few should be idle, and strips should be wide."""
    x = torch.empty(1, 1, 1, columns, 2, device='meta')
    side = torch.empty(*x.shape[:-1], 2, 1, device='meta')
    A, weight = (torch.empty(*size, device='meta') for size in ((2, 2, 2, 1), (2, 2, 2)))
    delta = x.expand(2, *x.shape)
    corners = write_corners([[CORNERS['UL']]])
    inputs = read_inputs(4, x, delta, A, weight, side, side, None, None, True, corners)
    assert inputs.choose_strip(units, 264) == strip


@needs_a_device
@pytest.mark.parametrize('corner', CORNERS)
@pytest.mark.parametrize(('columns', 'rows'), [(3, 2), (4, 16)])
def test_strips_and_tiles(corner, columns, rows, monkeypatch):
    """Of a map whose sides neither divides."""
    cut(monkeypatch, columns, rows)
    compare((2, 5, 8, 6), 4, [corner])


@needs_a_device
def test_corners_of_different_numbers_of_strips(monkeypatch):
    cut(monkeypatch, 3, 3)
    compare((1, 2, 7, 18), 16, list(CORNERS))


@needs_a_device
@pytest.mark.parametrize('states', [3, 4, 8, 12, 32])
def test_states(states):
    compare((1, 3, 4, 37), states, ['UL'])


@needs_a_device
@pytest.mark.parametrize('shape', [(1, 1, 1, 1), (1, 1, 19, 3), (1, 35, 1, 2), (3, 2, 2, 70)])
def test_sizes(shape):
    compare(shape, 2, ['LR', 'UR'])


@needs_a_device
@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('channels', [16, 33])
def test_dtypes(dtype, channels):
    compare((1, 4, 3, channels), 16, ['LL', 'UR'], dtype)


@needs_a_device
@pytest.mark.parametrize(('skip', 'bias', 'softplus'), [(False, False, True), (True, True, False)])
def test_what_may_be_missing(skip, bias, softplus):
    def shrink(arguments):
        if not softplus:
            arguments['delta'] = arguments['delta'].abs() / 4
            arguments['delta_bias'] = arguments['delta_bias'].abs() / 4

    compare((1, 3, 4, 8), 4, ['UL'], softplus=softplus, skip=skip, bias=bias, change=shrink)


@needs_a_device
def test_weights_of_nothing_and_of_everything():
    """Two scans that are not coupled; the gradients of the weights that are zero are not zero."""

    def uncouple(arguments):
        arguments['weight'] = torch.eye(2)[:, :, None].repeat(1, 1, 10)

    found = compare((1, 3, 4, 10), 4, ['UL'], change=uncouple)
    assert found['weight'][0, 1].abs().min() > 0


@needs_a_device
def test_strides():
    """B and C are parts of one product; x, delta and the gradient are turned maps."""

    def arrange(arguments):
        sides = torch.stack((arguments['B'], arguments['C']), -3).clone()
        arguments['B'], arguments['C'] = sides.unbind(-3)
        for name in ('x', 'delta'):
            turned = arguments[name].transpose(-3, -2).contiguous()
            arguments[name] = turned.transpose(-3, -2)
        assert not arguments['x'].is_contiguous() and not arguments['B'].is_contiguous()

    compare((2, 3, 4, 12), 8, ['UL', 'LR'], change=arrange)


@needs_a_device
@pytest.mark.parametrize('corners', [['UL'], ['LR', 'UR', 'LL']])
def test_one_gradient_for_all_corners(corners):
    """As the sum over them hands it on, without a copy for each."""
    arguments = make_arguments((2, 3, 4, 20), 4, corners, torch.float32)
    one = arguments['x'][:1].cos()
    shared = on_kernels(arguments, one.expand(arguments['x'].shape), True, corners)
    copied = on_kernels(arguments, one.repeat(len(corners), 1, 1, 1, 1), True, corners)
    assert all(torch.equal(shared[name], copied[name]) for name in shared)


@needs_a_device
def test_runs_agree_to_the_bit(monkeypatch):
    cut(monkeypatch, 3, 2)
    corners = list(CORNERS)
    arguments = make_arguments((2, 4, 5, 40), 16, corners, torch.float32)
    grad_y = arguments['x'].cos()
    first, second = (on_kernels(arguments, grad_y, True, corners) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@needs_a_device
def test_states_of_a_thread(monkeypatch):
    monkeypatch.setattr('mmv2m.ops.cuda.coupled_forward.STATES_HELD', 8)
    monkeypatch.setattr('mmv2m.ops.cuda.coupled_backward.STATES_HELD', 2)
    compare((1, 2, 5, 34), 16, ['UL'])


@needs_a_device
@pytest.mark.parametrize(('states', 'dtype'), [(4, torch.bfloat16), (33, torch.float32)])
def test_operators(states, dtype):
    """The operators of a backend: gradients like the arguments, also where PyTorch takes over."""
    operators = Operators(Kernels(cuda, triton))
    arguments = make_arguments((1, 3, 4, 6), states, ['UL'], dtype)
    given = [t.to(DEVICE) for t in arguments.values()]
    options = (True, 'right-down')
    y = operators.coupled_scan_forward(*given, *options)
    grad_y = torch.ones_like(y)
    gradients = operators.coupled_scan_backward(grad_y, *given, *options)
    truth = on_reference(arguments, grad_y.cpu(), True, ['UL'])
    for name, found, like in zip(('y', *NAMES), (y, *gradients), (given[0], *given), strict=True):
        assert found.dtype == like.dtype and found.shape == like.shape
        assert naive.relative_error(found.cpu(), truth[name]) < TOLERANCE[dtype], name


@pytest.fixture
def on_cuda(monkeypatch):
    """The backend has the kernels, not launched again, for tensors on any device."""
    operators = Operators(Kernels(cuda, triton))
    operators.refusal = lambda x: None
    monkeypatch.setitem(BACKENDS, 'cuda', operators)


def ssm_results(inputs, corners, reduction, backend, dtype=None):
    """Output and gradients."""
    leaves = {
        name: None if t is None else t.to(DEVICE, dtype, copy=True).requires_grad_()
        for name, t in inputs.items()
    }
    y = coupled_ssm(*nest_coupled_ssm(*leaves.values()), corners, reduction, backend)
    generator = torch.Generator().manual_seed(1)
    y.backward(torch.randn(y.shape, generator=generator).to(inputs['x'].dtype).to(y))
    return dict(y=y, **{n: t.grad for n, t in leaves.items() if t is not None})


def compare_ssm(inputs, *options):
    """The operator on these kernels errs about as the single ones on the reference do."""
    found, rounded = (ssm_results(inputs, *options, name) for name in ('cuda', 'reference'))
    for name, truth in ssm_results(inputs, *options, 'reference', torch.float64).items():
        assert found[name].dtype == rounded[name].dtype and found[name].is_contiguous()
        error, usual = (naive.relative_error(of[name], truth) for of in (found, rounded))
        assert error < max(2 * TOLERANCE[inputs['x'].dtype], 2 * usual), (name, error, usual)


@needs_a_device
@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('rank', [3, 8])
@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_one_operator_for_all_steps(dtype, rank, reduction, on_cuda, monkeypatch):
    """Its products have rows of zeros, as on a GPU, so that those of B and C are aligned."""
    padded_rank = 'mmv2m.ops.coupled_projection.padded_rank'
    monkeypatch.setattr(padded_rank, lambda x, rank: -(-rank // 8) * 8)
    inputs = make_coupled_ssm_inputs((2, 3, 4), 12, rank, 4, dtype)
    compare_ssm(inputs, list(CORNERS), reduction)


@needs_a_device
@pytest.mark.parametrize(
    ('shape', 'states', 'corners'),
    [((1, 4, 3, 5), 1, ['UR']), ((2, 1, 5, 33), 16, ['LL', 'UL']), ((1, 3, 4, 6), 33, ['LR'])],
)
def test_one_operator_of_any_size(shape, states, corners, on_cuda):
    """The last one has too many states for the scan's kernels."""
    inputs = make_coupled_ssm_inputs(shape[:3], shape[3], 3, states, conv_bias=states > 1)
    compare_ssm(inputs, corners, 'sum')


@needs_a_device
def test_replays(monkeypatch):
    """Of several strips and tiles, whose words have to be cleared again; B and C are parts."""
    cut(monkeypatch, 3, 2)
    corners, runs = list(CORNERS), []

    def backward(*args):
        runs.append(None)
        return cuda.coupled_scans_backward(*args)

    backward_again, forward_again = replayed(backward), replayed(cuda.coupled_scans_forward)
    for scale in (1, 2, 3, 4):
        arguments = make_arguments((1, 4, 5, 8), 4, corners, torch.float32)
        both = torch.stack((arguments['B'], arguments['C']), -3).to(DEVICE) * scale
        given = {name: t.to(DEVICE) for name, t in arguments.items()}
        given['B'], given['C'] = both.unbind(-3)
        args = (*given.values(), True, write_corners([[CORNERS[corner] for corner in corners]]))
        y, grads = forward_again(*args), backward_again(given['x'].cos(), *args)
        assert torch.equal(y, cuda.coupled_scans_forward(*args))
        expected = cuda.coupled_scans_backward(given['x'].cos(), *args)
        assert all(torch.equal(*pair) for pair in zip(grads, expected, strict=True))
    assert len(runs) == 2


@pytest.mark.parametrize(('states', 'channels'), [(33, 4), (4, 0)])
def test_what_is_left_to_pytorch(states, channels):
    arguments = make_arguments((1, 2, 3, channels), states, ['UL'], torch.float32)
    given = (*arguments.values(), True, 'right-down')
    assert cuda.coupled_scans_forward(*given) is NotImplemented
    assert cuda.coupled_scans_backward(arguments['x'], *given) is NotImplemented


@needs_a_device
def test_launches():
    """A small map takes one launch forth, and one that clears words besides."""
    arguments = make_arguments((1, 3, 3, 8), 4, ['UL'], torch.float32)
    given = [t.to(DEVICE) for t in arguments.values()] + [True, 'right-down']
    with launches() as calls:
        cuda.coupled_scans_forward(*given)
    assert [call.source for call in calls] == ['coupled_forward.cu']
    with launches() as calls:
        cuda.coupled_scans_backward(given[0], *given)
    sources = [call.source for call in calls]
    assert sources == ['clear_words.cu', 'coupled_backward.cu', 'sum_rows.cu']


@pytest.mark.parametrize('architecture', ['sm_80', 'sm_90', 'sm_120'])
@pytest.mark.parametrize('states', [1, 16])
def test_compiles_for(architecture, states, tmp_path, monkeypatch):
    pytest.importorskip('cuda.bindings')
    monkeypatch.setenv('MMV2M_CACHE_DIR', str(tmp_path))
    arguments = make_arguments((1, 17, 17, 96), states, ['UL'], torch.bfloat16)
    given = (*arguments.values(), True, 'right-down')
    for call in launches_of_cuda(cuda.coupled_scans_backward, arguments['x'], *given):
        assert compile_kernel(*call.key(), architecture)[:4] == b'\x7fELF'
