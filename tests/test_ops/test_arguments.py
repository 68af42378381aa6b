import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmv2m.ops import directional_conv, directional_scan

SHAPE, STATES = (2, 3, 4, 5), 2


def scan_with(**changes):
    x = torch.zeros(SHAPE)
    arguments = dict(x=x, delta=x, A=-torch.ones(SHAPE[-1], STATES))
    return directional_scan(**{**arguments, **changes})


@pytest.mark.parametrize(
    ('changes', 'error', 'words'),
    [
        (dict(x=torch.zeros(3, 4, 5)), ValueError, r'x must be a \(B, H, W, E\) map'),
        (dict(x=torch.zeros(SHAPE, dtype=torch.int32)), TypeError, 'x must be real floating'),
        (dict(x=torch.zeros(SHAPE, dtype=torch.complex64)), TypeError, 'x must be real floating'),
        (dict(x=[[0.0]]), TypeError, 'x must be a tensor, but is list'),
        (dict(delta=None), TypeError, 'delta must be a tensor'),
        (dict(delta=torch.zeros(2, 3, 4, 6)), ValueError, r'delta must have shape'),
        (dict(delta=torch.zeros(SHAPE).half()), TypeError, 'delta is torch.float16 but x is'),
        (dict(delta=torch.zeros(SHAPE, device='meta')), ValueError, 'delta is on meta but x is'),
        (dict(A=torch.ones(5)), ValueError, r'A must be an \(E, N\) tensor'),
        (dict(A=None), ValueError, r'A must be an \(E, N\) tensor'),
        (dict(A=torch.ones(4, 2)), ValueError, 'A must have shape'),
        (dict(A=torch.ones(5, 2, dtype=torch.complex64)), TypeError, 'A must be real floating'),
        (dict(B=torch.ones(5, 3)), ValueError, r'B must be None, \(E, N\)'),
        (dict(C=torch.ones(2, 3, 4, 3)), ValueError, r'C must be None, \(E, N\)'),
        (dict(C=torch.ones(2, 3, 4, 2).double()), TypeError, 'C is torch.float64 but x is'),
        (dict(D=torch.ones(4)), ValueError, 'D must have shape'),
        (dict(z=torch.ones(2, 3, 4, 1)), ValueError, 'z must have shape'),
        (dict(delta_bias=torch.ones(1)), ValueError, 'delta_bias must have shape'),
        (dict(direction='sideways'), ValueError, "direction must be one of .*'sideways'"),
        (dict(backend='opencl'), ValueError, "backend must be one of auto, .*'opencl'"),
    ],
)
def test_scan_says_what_is_wrong(changes, error, words):
    with pytest.raises(error, match=words) as caught:
        scan_with(**changes)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('arguments', 'error', 'words'),
    [
        ((torch.zeros(4, 5), torch.ones(5, 4)), ValueError, 'x must be'),
        ((torch.zeros(SHAPE), torch.ones(5)), ValueError, 'weight must be'),
        ((torch.zeros(SHAPE), torch.ones(5, 0)), ValueError, 'weight must be'),
        ((torch.zeros(SHAPE), torch.ones(4, 4)), ValueError, 'weight must have shape'),
        ((torch.zeros(SHAPE), torch.ones(5, 4), torch.ones(4)), ValueError, 'bias must have'),
        ((torch.zeros(SHAPE), torch.ones(5, 4), None, 'north'), ValueError, 'direction must be'),
    ],
)
def test_conv_says_what_is_wrong(arguments, error, words):
    with pytest.raises(error, match=words):
        directional_conv(*arguments)


shapes = st.lists(st.integers(0, 4), min_size=0, max_size=5).map(tuple)


@settings(max_examples=60, deadline=None)
@given(x=shapes, delta=shapes, A=shapes)
def test_any_shapes_give_a_result_or_a_clear_error(x, delta, A):
    tensors = [torch.zeros(s) for s in (x, delta, A)]
    fits = len(x) == 4 and delta == x and len(A) == 2 and A[0] == x[-1]
    if fits:
        assert directional_scan(*tensors).shape == torch.Size(x)
    else:
        with pytest.raises(ValueError, match=r'must (be|have)'):
            directional_scan(*tensors)
