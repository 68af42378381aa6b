"""``directional_ssm`` of the kernels against the float64 reference.

Triton's are interpreted without a GPU.
"""

import pytest
import torch
from kernel_comparison import CORNERS, DEVICE, TOLERANCE, compare
from scan_inputs import make_ssm_inputs

from mmv2m.ops import directional_ssm
from mmv2m.ops.directional_ssm import SIDES

pytest.importorskip('triton')


@pytest.mark.parametrize('shape', [(0, 2, 3), (1, 0, 3), (1, 2, 0)])
@pytest.mark.parametrize('conv', [True, False])
def test_ssm_of_empty_maps(shape, conv):
    inputs = make_ssm_inputs(shape, conv=conv)
    leaves = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items() if v is not None}
    y = directional_ssm(**inputs | leaves, directions=CORNERS, reduction='sum', backend='triton')
    y.sum().backward()
    assert y.shape == torch.Size((*shape, 6))
    assert all(torch.equal(leaf.grad, torch.zeros_like(leaf)) for leaf in leaves.values())


@pytest.mark.parametrize(
    ('projects', 'reduction', 'maps'),
    [
        *(('input', 'none', 0), ('input', 'sum', 4)),
        *(('output', 'none', 4), ('output', 'sum', 0)),
        *(('both', 'none', 0), ('both', 'sum', 4)),
    ],
)
def test_ssm(projects, reduction, maps):
    assert projects in SIDES
    grid = (2 if reduction == 'none' else 1, 3, 5)
    inputs = make_ssm_inputs(grid, maps=maps, projects=projects)
    options = dict(directions=CORNERS, projects=projects, reduction=reduction)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], **options)


@pytest.mark.parametrize('projects', SIDES)
@pytest.mark.parametrize(('reduction', 'maps'), [('none', 0), ('sum', 0), ('none', 2)])
def test_ssm_without_convolution(projects, reduction, maps):
    inputs = make_ssm_inputs((1, 3, 4), maps=maps, projects=projects, conv=False)
    options = dict(directions=['left', 'down'], projects=projects, reduction=reduction)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], **options)


@pytest.mark.parametrize(
    ('directions', 'conv'),
    [
        (['up'], True),
        (['up'], False),
        (['left', 'right'], False),
        (['down', 'right', 'up'], True),
    ],
)
def test_ssm_subsets_of_directions(directions, conv):
    inputs = make_ssm_inputs(grid=(1, 4, 3), channels=40, rank=5, states=3, conv=conv)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], directions=directions)


@pytest.mark.parametrize(
    ('projects', 'directions', 'conv'),
    [
        ('both', ['right'], False),
        ('both', ['left'], False),
        ('input', ['left', 'right'], False),
        ('output', ['left', 'right'], False),
        ('both', ['left'], True),
    ],
)
def test_ssm_of_long_lanes_in_segments(projects, directions, conv, monkeypatch):
    """A sequence as VMamba scans it, with the logarithm of A."""
    monkeypatch.setattr('mmv2m.ops.triton.segments.LEAST_STEPS', 5)
    inputs = make_ssm_inputs(grid=(2, 1, 19), states=3, projects=projects, conv=conv)
    inputs['A'] = (-inputs['A']).log()
    options = dict(directions=directions, projects=projects, reduction='sum', log_A=True)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], **options)


@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_ssm_with_parameters_as_a_model_keeps_them(reduction):
    inputs = make_ssm_inputs((1, 2, 3))
    inputs.update(A=(-inputs['A']).log(), conv_weight=inputs['conv_weight'].unsqueeze(1))
    options = dict(directions=CORNERS, reduction=reduction, log_A=True)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], **options)


def test_ssm_without_gate_and_conv_bias():
    inputs = make_ssm_inputs((1, 3, 4)) | dict(gate=None, conv_bias=None)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], directions=CORNERS)


@pytest.mark.parametrize('maps', [0, 2])
def test_ssm_of_maps_with_gaps_and_without_convolution(maps):
    """``x`` is one half of a projection's output, or turned."""
    inputs = make_ssm_inputs(maps=maps, conv=False)
    options = dict(directions=['right', 'up'][: maps or 1], backend='triton')
    x = inputs['x'].to(DEVICE)
    parameters = {k: v.to(DEVICE) for k, v in inputs.items() if k != 'x' and v is not None}
    rest = dict(gate=None, conv_weight=None, conv_bias=None, **parameters)
    expected = directional_ssm(x.contiguous(), **rest, **options)
    with_gaps = torch.cat([x, x], -1).chunk(2, -1)[1]
    turned = x.transpose(-2, -3).contiguous().transpose(-2, -3)
    for other in (with_gaps, turned):
        assert not other.is_contiguous()
        assert torch.equal(directional_ssm(other, **rest, **options), expected)


@pytest.mark.parametrize(
    ('dtype', 'conv', 'directions'),
    [
        *((dtype, True, CORNERS) for dtype in (torch.bfloat16, torch.float16)),
        *((dtype, False, ['left', 'right']) for dtype in (torch.float32, torch.bfloat16)),
    ],
)
def test_ssm_dtypes(dtype, conv, directions):
    inputs = make_ssm_inputs((1, 3, 5), states=16, dtype=dtype, conv=conv)
    compare(directional_ssm, inputs, TOLERANCE[dtype], directions=directions, reduction='sum')


def test_two_runs_agree_to_the_bit():
    gradients = []
    for _ in range(2):
        inputs = make_ssm_inputs((1, 2, 3))
        leaves = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items()}
        y = directional_ssm(**leaves, directions=CORNERS, reduction='sum', backend='triton')
        y.square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves.values()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_ssm_keeps_its_inputs_only():
    inputs = {k: v.to(DEVICE).requires_grad_() for k, v in make_ssm_inputs((1, 2, 3)).items()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        directional_ssm(**inputs, directions=CORNERS, backend='triton')
    assert {t.data_ptr() for t in kept} <= {t.data_ptr() for t in inputs.values()}


def test_compile_sees_one_node():
    nodes = []

    def backend(module, _):
        nodes.extend(str(n.target) for n in module.graph.nodes if 'mmv2m' in str(n.target))
        return module.forward

    inputs = {k: v.to(DEVICE) for k, v in make_ssm_inputs((1, 2, 3)).items()}

    def run(**tensors):
        return directional_ssm(**tensors, directions=CORNERS, backend='triton')

    torch.compile(run, backend=backend, fullgraph=True)(**inputs)
    assert nodes == ['mmv2m.directional_ssm.default']


@pytest.mark.parametrize(('reduction', 'conv'), [('none', True), ('sum', False)])
def test_opcheck(reduction, conv):
    inputs = make_ssm_inputs(grid=(1, 2, 2), conv=conv).values()
    tensors = [None if t is None else t.to(DEVICE).requires_grad_() for t in inputs]
    arguments = (*tensors, 'right,up', 'input', reduction, False, 'triton')
    torch.library.opcheck(torch.ops.mmv2m.directional_ssm.default, arguments)
