import pytest
import torch

from mmv2m.models.layers.snake import MOVES, merge, snake, spread

SIZES = [(3, 4), (4, 3), (1, 5), (5, 1), (1, 1), (2, 2)]
STEPS = {'right': (0, 1), 'left': (0, -1), 'up': (-1, 0), 'down': (1, 0)}


@pytest.mark.parametrize('size', SIZES)
def test_each_step_goes_to_a_neighbour_the_way_it_says(size):
    order, inverse, move = snake(*size)
    for k in range(4):
        assert order[k].sort().values.tolist() == list(range(size[0] * size[1]))
        assert torch.equal(order[k][inverse[k]], torch.arange(size[0] * size[1]))
        places = [divmod(token, size[1]) for token in order[k].tolist()]
        assert MOVES[move[k][0]] == 'start'
        for before, after, name in zip(places[:-1], places[1:], move[k][1:].tolist(), strict=True):
            step = (after[0] - before[0], after[1] - before[1])
            assert step == STEPS[MOVES[name]]


def test_where_the_orders_start():
    order = snake(3, 4).order
    assert order[0][:5].tolist() == [0, 1, 2, 3, 7]
    assert order[2][:4].tolist() == [0, 4, 8, 9]
    assert torch.equal(order[1], order[0].flip(0))
    assert torch.equal(order[3], order[2].flip(0))


@pytest.mark.parametrize('size', [(3, 4), (2, 1)])
def test_spread_and_merge(size):
    orders = snake(*size)
    x = torch.randn(2, size[0] * size[1], 3, dtype=torch.float64, requires_grad=True)
    four = spread(x, orders)
    for k in range(4):
        assert torch.equal(four[:, k], x[:, orders.order[k]])
    assert torch.allclose(merge(four, orders), 4 * x)
    assert torch.autograd.gradcheck(lambda x: spread(x, orders), x)
    y = torch.randn_like(four).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: merge(y, orders), y)
