import itertools

import naive
import naive_coupled
import pytest
import torch
from scan_inputs import make_coupled_inputs
from torch.func import grad, jvp, vmap

from mmv2m.ops import (
    BACKENDS,
    CORNERS,
    Corner,
    coupled_scan,
    coupled_scan_reference,
    directional_scan,
)
from mmv2m.ops.backends import has
from mmv2m.ops.directions import write_corners

ALL = tuple(CORNERS)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
TENSORS = ('x', 'delta', 'A', 'weight', 'B', 'C', 'D', 'delta_bias')


def run_naive(inputs, corners):
    renamed = {k: v for k, v in inputs.items() if k not in ('delta_bias', 'delta_softplus')}
    bias, softplus = inputs.get('delta_bias'), inputs.get('delta_softplus', False)
    return naive_coupled.coupled_scan(**renamed, bias=bias, use_softplus=softplus, corners=corners)


def error_of(inputs, corners=ALL, backend='reference'):
    y = coupled_scan(**inputs, corners=corners, backend=backend)
    assert y.is_contiguous()
    return naive.relative_error(y, run_naive(inputs, corners))


@pytest.mark.parametrize('grid', [(2, 3, 5), (1, 1, 7), (2, 4, 1), (1, 1, 1), (1, 4, 4)])
@pytest.mark.parametrize('states', [1, 2, 8])
def test_agrees_with_the_equations(grid, states):
    inputs = make_coupled_inputs(ALL, grid, states=states)
    assert error_of(inputs) < 1e-12
    y = coupled_scan_reference(**inputs, corners=write_corners([CORNERS.values()]))
    assert naive.relative_error(y, run_naive(inputs, ALL)) < 1e-12


@pytest.mark.parametrize('corners', [('UL',), ('LR',), ('UR',), ('LL',), ('UL', 'LR'), ALL[::-1]])
def test_corners(corners):
    inputs = make_coupled_inputs(corners, (1, 3, 4))
    assert error_of(inputs, corners) < 1e-12
    found = coupled_scan(**inputs, corners=[CORNERS[c] for c in corners])
    assert torch.equal(found, coupled_scan(**inputs, corners=corners))


def test_a_corner_with_its_directions_in_the_other_order():
    inputs = make_coupled_inputs(('UL',), (1, 3, 4))
    found = coupled_scan(**inputs, corners=[Corner.of('down', 'right')])
    turned = {k: inputs[k].transpose(-3, -2) for k in ('x', 'delta')}
    turned |= {k: inputs[k].transpose(2, 3) for k in ('B', 'C')}
    expected = run_naive(inputs | turned, ('UL',)).transpose(2, 3)
    assert naive.relative_error(found, expected) < 1e-12


@pytest.mark.parametrize('left_out', ['D', 'delta_bias', 'delta_softplus'])
def test_optional_arguments(left_out):
    inputs = make_coupled_inputs(ALL)
    del inputs[left_out]
    if left_out == 'delta_softplus':
        inputs['delta'], inputs['delta_bias'] = inputs['delta'].abs(), inputs['delta_bias'].abs()
    assert error_of(inputs) < 1e-12


@pytest.mark.parametrize('axis', range(5))
@pytest.mark.parametrize('size', [0, 1])
def test_smallest_sizes(axis, size):
    sizes = [4, 2, 3, 4, 5]
    if axis == 0 and not size:
        pytest.skip('there is no corner to start from: refused, see below')
    sizes[axis] = size
    corners = ALL[: sizes[0]]
    inputs = make_coupled_inputs(corners, tuple(sizes[1:4]), sizes[4])
    leaves = {k: v.requires_grad_() for k, v in inputs.items() if isinstance(v, torch.Tensor)}
    y = coupled_scan(**inputs, corners=corners)
    y.sum().backward()
    assert y.shape == torch.Size(sizes)
    assert all(leaf.grad.shape == leaf.shape for leaf in leaves.values())
    if size:
        assert naive.relative_error(y, run_naive(inputs, corners)) < 1e-12


@pytest.mark.parametrize('corners', [('UL', 'UR'), ('LR',), ('LL',)])
@pytest.mark.parametrize('left_out', [None, 'D', 'delta_bias'])
def test_gradcheck(corners, left_out):
    inputs = make_coupled_inputs(corners, (2, 2, 3), 2, 2)
    names = [k for k in TENSORS if k != left_out]
    tensors = tuple(inputs[k].requires_grad_() for k in names)

    def run(*values):
        named = dict(zip(names, values, strict=True))
        return coupled_scan(**named, delta_softplus=True, corners=corners, backend='reference')

    assert torch.autograd.gradcheck(run, tensors)


def test_gradients_of_many_pieces(monkeypatch):
    """Images in pieces of one give what all at once give."""
    gradients = []
    for size in (1, 2**30):
        monkeypatch.setattr('mmv2m.ops.reference.coupled._PIECE', size)
        inputs = make_coupled_inputs(ALL, (3, 4, 2))
        leaves = [v.requires_grad_() for v in inputs.values() if isinstance(v, torch.Tensor)]
        coupled_scan(**inputs, corners=ALL, backend='reference').sin().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for one, other in zip(*gradients, strict=True):
        assert naive.relative_error(one, other) < 1e-12


@pytest.mark.parametrize('dtype', TOLERANCE)
def test_precision_of_output_and_gradients(dtype):
    inputs = make_coupled_inputs(ALL, (2, 6, 7), 5, 4, dtype=dtype)
    tensors = {k: v for k, v in inputs.items() if isinstance(v, torch.Tensor)}
    results = []
    options = (dict(corners=ALL, backend='reference'), dict(corners=write_all()))
    for function, kind, how in (
        (coupled_scan, None, options[0]),
        (coupled_scan_reference, torch.float64, options[1]),
    ):
        leaves = {k: v.to(kind or v.dtype).detach().requires_grad_() for k, v in tensors.items()}
        y = function(**leaves, delta_softplus=True, **how)
        y.float().sin().sum().backward()
        results.append({'y': y, **{k: v.grad for k, v in leaves.items()}})
    for name, truth in results[1].items():
        error = naive.relative_error(results[0][name], truth)
        assert error < 4 * TOLERANCE[dtype], (name, error)
    assert results[0]['y'].dtype == dtype


def write_all():
    return write_corners([CORNERS.values()])


@pytest.mark.parametrize('order', [*itertools.permutations(range(1, 5))][::5])
def test_any_strides(order):
    inputs = make_coupled_inputs(ALL)
    there = (0, *order)
    back = torch.argsort(torch.tensor(there)).tolist()
    for name in ('x', 'B', 'C'):
        m = inputs[name]
        rest = range(5, m.dim())
        laid = m.permute(*there, *rest).contiguous().permute(*back, *rest)
        inputs[name] = laid
    both = torch.cat((inputs['delta'], inputs['delta']), -1)
    inputs['delta'] = both.chunk(2, -1)[1]
    y = coupled_scan(**inputs, corners=ALL, backend='reference')
    assert y.is_contiguous()
    expected = coupled_scan(**make_coupled_inputs(ALL), corners=ALL, backend='reference')
    assert naive.relative_error(y, expected) < 1e-14
    gradients = torch.ops.mmv2m.coupled_scan_backward(
        torch.ones_like(y), *inputs.values(), write_all(), 'reference'
    )
    assert all(gradient.is_contiguous() for gradient in gradients)


def test_two_runs_agree_to_the_bit():
    gradients = []
    for _ in range(2):
        inputs = make_coupled_inputs(ALL, dtype=torch.float32)
        leaves = [v.requires_grad_() for v in inputs.values() if isinstance(v, torch.Tensor)]
        coupled_scan(**inputs, corners=ALL).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_autocast_does_not_round_the_states():
    inputs = make_coupled_inputs(ALL, dtype=torch.float32)
    expected = coupled_scan(**inputs, corners=ALL)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(coupled_scan(**inputs, corners=ALL), expected)


# Special cases.


def test_without_coupling_it_is_two_scans():
    inputs = make_coupled_inputs(ALL, (2, 3, 5), 4, 3)
    eye = torch.eye(2, dtype=torch.float64)[..., None].expand(2, 2, 4)
    y = coupled_scan(**inputs | dict(weight=eye), corners=ALL)
    for k, corner in enumerate(CORNERS.values()):
        scans = [
            directional_scan(
                inputs['x'][k],
                inputs['delta'][n, k],
                inputs['A'][n, n],
                inputs['B'][k, ..., n, :],
                inputs['C'][k, ..., n, :],
                inputs['D'] if n else None,
                None,
                inputs['delta_bias'][n],
                True,
                way,
            )
            for n, way in enumerate((corner.first, corner.second))
        ]
        assert naive.relative_error(y[k], scans[0] + scans[1]) < 1e-12


def test_mean_of_both_neighbours_of_one_state():
    """Mamba2D's recurrence: h[i, j] = exp(D A) (h[i, j-1] + h[i-1, j]) / 2 + D B x."""
    inputs = make_coupled_inputs(('UL',), (1, 3, 4), 2, 3)
    A, bias = inputs['A'][0, 0], inputs['delta_bias'][0]
    delta, B, C = inputs['delta'][0], inputs['B'][..., 0, :], inputs['C'][..., 0, :]
    half = torch.full_like(inputs['weight'], 0.5)
    y = coupled_scan(
        inputs['x'],
        torch.stack((delta, delta)),
        A.expand(2, 2, *A.shape),
        half,
        torch.stack((B, B), -2),
        torch.stack((C, torch.zeros_like(C)), -2),
        inputs['D'],
        torch.stack((bias, bias)),
        True,
    )
    h = torch.zeros(4, 5, *A.shape, dtype=torch.float64)
    for i in range(3):
        for j in range(4):
            step = naive.softplus(delta[0, 0, i, j] + bias)[:, None]
            u = inputs['x'][0, 0, i, j][:, None]
            mean = (h[i + 1, j] + h[i, j + 1]) / 2
            h[i + 1, j + 1] = torch.exp(step * A) * mean + step * B[0, 0, i, j] * u
            expected = (h[i + 1, j + 1] * C[0, 0, i, j]).sum(-1) + inputs['D'] * u[:, 0]
            torch.testing.assert_close(y[0, 0, i, j], expected)


def response(weight, side, step):
    """Largest output at each token behind an impulse in the corner, from maps of ``side``."""
    shape = (1, 1, side, side, 1)
    x = torch.zeros(shape, dtype=torch.float64)
    x[0, 0, 0, 0] = 1
    ones = torch.ones(*shape[:4], 2, 1, dtype=torch.float64)
    delta = torch.full((2, *shape), step, dtype=torch.float64)
    A = -torch.ones(2, 2, 1, 1, dtype=torch.float64)
    weight = torch.tensor(weight, dtype=torch.float64)[..., None]
    y = [
        coupled_scan(x, delta, A, weight, ones / step, ones * of, corners=('UL',))
        for of in (torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]]))
    ]
    return torch.stack(y)[:, 0, 0, ..., 0].abs().amax(0)


@pytest.mark.parametrize('step', [1e-6, 1e-2, 1.0, 30.0])
@pytest.mark.parametrize(
    'weight',
    [
        [[0.5, 0.5], [0.5, 0.5]],
        [[0.9, 0.1], [0.3, 0.7]],
        [[1.0, 0.0], [1.0, 0.0]],
        [[-0.5, 0.5], [0.25, -0.75]],
    ],
)
def test_states_do_not_grow_if_each_takes_at_most_the_whole(weight, step):
    found = response(weight, 24, step)
    assert found.max() <= 1 + 1e-9
    for i in range(24):
        for j in range(24):
            before = [found[a, b] for a, b in ((i, j - 1), (i - 1, j)) if a >= 0 and b >= 0]
            if before:
                assert found[i, j] <= max(before) + 1e-12


def test_a_weight_of_one_everywhere_grows():
    """Eq. 7 and 8 as printed: a token gets a part of its own by every way that leads to it."""
    assert response([[1.0, 1.0], [1.0, 1.0]], 24, 1e-3).max() > 1e9


# As an operator.


def arguments(dtype=torch.float32, corners=('UL', 'LL'), requires_grad=True):
    inputs = make_coupled_inputs(corners, (2, 2, 3), 3, 2, dtype=dtype)
    tensors = [inputs[k].requires_grad_(requires_grad) for k in TENSORS]
    return [*tensors, True, write_corners([[CORNERS[c] for c in corners]]), 'reference']


@pytest.mark.parametrize('left_out', [None, 'D', 'delta_bias'])
def test_opcheck(left_out):
    args = arguments()
    if left_out:
        args[TENSORS.index(left_out)] = None
    torch.library.opcheck(torch.ops.mmv2m.coupled_scan.default, args)


def test_opcheck_backward():
    args = arguments()
    grad_y = torch.ones_like(args[0]).requires_grad_()
    torch.library.opcheck(torch.ops.mmv2m.coupled_scan_backward.default, [grad_y, *args])


def test_second_derivatives_of_the_reference():
    args = arguments(torch.float64)

    def run(*tensors):
        return coupled_scan(*tensors, True, ('UL', 'LL'), 'reference')

    assert torch.autograd.gradgradcheck(run, args[:8], fast_mode=True)


@pytest.mark.parametrize('backend', ['cuda', 'cpu'])
def test_other_backends_say_that_they_have_no_second_derivatives(backend):
    if backend == 'cuda' and not torch.cuda.is_available():
        pytest.skip('needs a GPU')
    if not has(backend, 'coupled_scan_forward'):
        pytest.skip('it has no coupled scan')
    device = 'cuda' if backend == 'cuda' else 'cpu'
    given = [t.detach().to(device).requires_grad_() for t in arguments()[:8]]
    y = coupled_scan(*given, True, ('UL', 'LL'), backend)
    found = torch.autograd.grad(y.square().sum(), given, create_graph=True)
    with pytest.raises(NotImplementedError, match='no second derivatives of coupled_scan on the'):
        sum(one.sum() for one in found).backward()


def test_gradients_of_each_sample():
    x, *others = arguments(requires_grad=False)[:8]
    maps = torch.stack([x, x - 0.5])

    def loss(x, *others):
        y = coupled_scan(x, *others, True, ('UL', 'LL'), 'reference')
        return y.square().sum()

    found = vmap(grad(loss), (0, *[None] * 7))(maps, *others)
    expected = torch.stack([grad(loss)(x, *others) for x in maps])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_derivatives_along_a_direction_are_refused():
    tensors = tuple(arguments(requires_grad=False)[:8])
    with pytest.raises(NotImplementedError, match='has no derivatives in forward mode'):
        jvp(lambda *t: coupled_scan(*t, True, ('UL', 'LL'), 'reference'), tensors, tensors)


def test_compiled_in_one_node():
    inputs = make_coupled_inputs(ALL, dtype=torch.float32)
    leaves = [v.requires_grad_() for v in inputs.values() if isinstance(v, torch.Tensor)]

    def run(*tensors):
        return coupled_scan(*tensors, True, ALL, 'reference').sin().sum()

    compiled = torch.compile(run, backend='aot_eager', fullgraph=True)
    for one, other in zip(
        torch.autograd.grad(compiled(*leaves), leaves),
        torch.autograd.grad(run(*leaves), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_backward_keeps_inputs_only():
    inputs, kept = make_coupled_inputs(ALL, dtype=torch.float32), []
    leaves = [v.requires_grad_() for v in inputs.values() if isinstance(v, torch.Tensor)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        coupled_scan(**inputs, corners=ALL)
    assert {t.data_ptr() for t in kept} <= {t.data_ptr() for t in leaves}


WRONG = [
    (dict(corners='UL'), ValueError, 'corners must be a sequence'),
    (dict(corners=('UL',)), ValueError, '4 maps for 1 corners'),
    (dict(corners=('UL', 'LR', 'UR', 'XX')), ValueError, "got 'XX'"),
    (dict(corners=[Corner.of('right', 'left')] * 4), ValueError, 'along both axes'),
    (dict(corners=[Corner.of('right', 'down', (1,))] * 4), ValueError, 'flip nothing'),
    (dict(x=torch.zeros(3, 4, 5, 4)), ValueError, r'x must be \(K, B, H, W, E\)'),
    (dict(A=torch.zeros(4, 3)), ValueError, r'A must be a \(2, 2, E, N\)'),
    (dict(A=torch.zeros(2, 2, 5, 3)), ValueError, 'A must have shape'),
    (dict(weight=torch.zeros(2, 2)), ValueError, 'weight must have shape'),
    (dict(weight=None), TypeError, 'weight must be a tensor'),
    (dict(delta=torch.zeros(4, 2, 3, 5, 4)), ValueError, 'delta must have shape'),
    (dict(B=torch.zeros(4, 2, 3, 5, 3)), ValueError, 'B must have shape'),
    (dict(C=None), TypeError, 'C must be a tensor'),
    (dict(delta_bias=torch.zeros(4)), ValueError, 'delta_bias must have shape'),
    (dict(backend='mamba_ssm'), RuntimeError, "backend 'mamba_ssm'"),
    (dict(backend='other'), ValueError, 'backend must be one of'),
]


@pytest.mark.parametrize(('change', 'error', 'words'), WRONG)
def test_wrong_arguments(change, error, words):
    inputs = make_coupled_inputs(ALL, dtype=torch.float32) | dict(corners=ALL)
    with pytest.raises(error, match=words):
        coupled_scan(**inputs | change)


def test_another_dtype_than_that_of_x_is_refused():
    inputs = make_coupled_inputs(ALL, dtype=torch.float32)
    inputs['delta'] = inputs['delta'].double()
    with pytest.raises(TypeError, match='delta is torch.float64 but x is torch.float32'):
        coupled_scan(**inputs, corners=ALL)


def test_a_backend_without_it_is_passed_over(monkeypatch):
    if hasattr(BACKENDS['cpu'], 'coupled_scan_forward'):
        monkeypatch.delattr(BACKENDS['cpu'], 'coupled_scan_forward')
    inputs = make_coupled_inputs(ALL, dtype=torch.float32)
    y = coupled_scan(**inputs, corners=ALL)
    assert torch.equal(y, coupled_scan(**inputs, corners=ALL, backend='reference'))
    # PyTorch for CPUs comes without Triton, and so without what is made of its kernels.
    monkeypatch.setattr('mmv2m.ops.backends.installed.HAS_TRITON', False)
    monkeypatch.delitem(vars(BACKENDS['cuda']), 'coupled_scan_forward', raising=False)
    words = "backend 'cpu' has no coupled_scan_forward; these have it: reference$"
    with pytest.raises(RuntimeError, match=words):
        coupled_scan(**inputs, corners=ALL, backend='cpu')
