import pytest
import torch

from mmv2m.models.layers import CrossToken, build_class_token


@pytest.mark.parametrize(('kind', 'row', 'column'), [('middle', 1, 2), ('edge', 3, 4)])
def test_where_the_tokens_stand(kind, row, column):
    token = build_class_token(kind, 2, (3, 4))
    x = torch.randn(5, 3, 4, 2)
    with_tokens = token(x)
    assert with_tokens.shape == (5, 4, 5, 2)
    assert torch.equal(token.strip(with_tokens), x)
    assert torch.equal(token.read(with_tokens), token.crossing.flatten().expand(5, 2))
    keep_columns = [j for j in range(5) if j != column]
    assert torch.equal(with_tokens[0, row, keep_columns], token.row[0, 0])
    keep_rows = [i for i in range(4) if i != row]
    assert torch.equal(with_tokens[0, keep_rows, column], token.column[0, :, 0])


def test_mean_adds_nothing():
    token = build_class_token('mean', 2, (3, 4))
    x = torch.randn(5, 3, 4, 2)
    assert not list(token.parameters())
    assert token(x) is x
    assert token.strip(x) is x
    assert torch.allclose(token.read(x), x.mean((1, 2)))


@pytest.mark.parametrize('grid', [(1, 1), (6, 2), (7, 9)])
@pytest.mark.parametrize('at_edge', [True, False])
def test_other_grids(grid, at_edge):
    token = CrossToken(2, (3, 4), at_edge)
    x = torch.randn(1, *grid, 2)
    assert torch.equal(token.strip(token(x)), x)
    assert torch.equal(token.read(token(x)), token.crossing.flatten(0, 2))


def test_interpolated_rows_keep_their_course():
    token = CrossToken(1, (4, 4))
    token.row.data = torch.arange(4.0).reshape(1, 1, 4, 1)
    row = token(torch.zeros(1, 8, 8, 1))[0, 4, :, 0]
    patches = torch.cat((row[:4], row[5:]))
    assert (patches.diff() >= 0).all()
    assert patches[[0, -1]].tolist() == [0, 3]


def test_unknown_kind():
    with pytest.raises(ValueError, match="one of middle, edge, mean, but got 'corner'"):
        build_class_token('corner', 2, (3, 4))
