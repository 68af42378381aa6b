import naive_sequence
import pytest
import torch

from mmv2m.models.layers.scan_orders import parse_scans, to_map, to_sequence

NAMES = ['h', 'v', 'w2', 'w3', 'w7']


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('size', [(3, 3), (2, 5), (7, 6), (1, 1), (8, 14)])
def test_order_of_tokens(name, size):
    (order,) = parse_scans([name])
    x = torch.randn(2, *size, 3)
    sequence = to_sequence(x, order)
    walked = naive_sequence.positions(name, *size)
    assert sequence.shape == (2, 1, len(walked), 3)
    tokens = x.flatten(1, 2)
    for k, t in enumerate(walked):
        expected = torch.zeros(2, 3) if t is None else tokens[:, t]
        assert torch.equal(sequence[:, 0, k], expected)
    assert torch.equal(to_map(sequence, order, size), x)


def test_a_flip_is_the_same_sequence_walked_backwards():
    for name in NAMES:
        order, flipped = parse_scans([name, f'{name}_flip'])
        assert (order.direction, flipped.direction) == ('right', 'left')
        assert order[:2] == flipped[:2]
        back = naive_sequence.positions(f'{name}_flip', 3, 5)
        assert back == naive_sequence.positions(name, 3, 5)[::-1]


def test_rows_are_not_copied():
    (order,) = parse_scans(['h'])
    x = torch.randn(2, 3, 4, 8)[..., :4]
    assert to_sequence(x, order).data_ptr() == x.data_ptr()


@pytest.mark.parametrize(
    ('names', 'words'),
    [
        ((), 'scans of a block must be names'),
        ('h', "got 'h'"),
        (3, 'scans of a block must be names'),
        (('w0',), "or one with _flip; got 'w0'"),
        (('h', 'flip'), "got 'flip'"),
        (('h', 'w2', 'h'), "must differ, but 'h' comes twice"),
    ],
)
def test_impossible_names(names, words):
    with pytest.raises(ValueError, match=words):
        parse_scans(names)
