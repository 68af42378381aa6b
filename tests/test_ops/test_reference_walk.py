import naive
import pytest
import torch
from scan_inputs import make_inputs

from mmv2m.ops import DIRECTIONS, directional_scan, directional_scan_reference
from mmv2m.ops.reference import walk as reference_walk


def outputs_and_gradients(function, inputs, direction):
    leaves = {
        k: v.detach().requires_grad_() for k, v in inputs.items() if isinstance(v, torch.Tensor)
    }
    y = function(**leaves, delta_softplus=True, direction=direction)
    y.sin().sum().backward()
    return [y, *(leaf.grad for leaf in leaves.values())]


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize('elements', [1, 250])
@pytest.mark.parametrize(('B', 'C'), [('token', 'constant'), ('constant', 'token'), (None, None)])
def test_pieces_change_nothing(monkeypatch, direction, elements, B, C):
    # From one step and one sequence at a time to some with a smaller piece at the end.
    monkeypatch.setattr(reference_walk, '_CPU_PIECE', elements)
    inputs = make_inputs((2, 5, 7, 4), 2, B=B, C=C)
    results = outputs_and_gradients(directional_scan, inputs, direction)
    truths = outputs_and_gradients(directional_scan_reference, inputs, direction)
    for result, truth in zip(results, truths, strict=True):
        assert naive.relative_error(result, truth) < 1e-12


@pytest.mark.parametrize('precision', ['high', 'medium'])
def test_matmul_precision_does_not_matter(precision):
    inputs = make_inputs((2, 3, 5, 64), 16, dtype=torch.float32)
    expected = outputs_and_gradients(directional_scan, inputs, 'right')
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        results = outputs_and_gradients(directional_scan, inputs, 'right')
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize('direction', ['right', 'down'])
def test_states_of_a_long_lane_are_not_kept(monkeypatch, direction):
    monkeypatch.setattr(reference_walk, '_CPU_PIECE', 2**10)
    sizes = []
    new_empty = torch.Tensor.new_empty

    def recorded(tensor, *shape, **options):
        made = new_empty(tensor, *shape, **options)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(torch.Tensor, 'new_empty', recorded)
    steps = 1000
    shape = (1, 1, steps, 8) if direction == 'right' else (1, steps, 1, 8)
    inputs = make_inputs(shape, 4, dtype=torch.float32)
    directional_scan(**inputs, direction=direction, backend='reference')
    assert 0 < max(sizes) <= 3 * 2**10 < steps * 8 * 4
