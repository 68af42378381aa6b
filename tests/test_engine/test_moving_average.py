"""The average of weights by foreach operators equals mmengine's."""

from copy import deepcopy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mmv2m.engine import ForeachExponentialMovingAverage

OURS, STOCK = ForeachExponentialMovingAverage, ExponentialMovingAverage
FLOATS = pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
SETTINGS = [
    dict(),
    dict(momentum=0.25),
    dict(momentum=0.25, interval=3),
    dict(momentum=0.25, update_buffers=True),
    dict(momentum=0.25, interval=2, update_buffers=True),
    dict(momentum=0.25, device='cpu'),
]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(()))
        self.blocks = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Linear(2, 2))
        self.blocks.add_module('frozen', nn.Linear(2, 2).requires_grad_(False))
        self.register_buffer('index', torch.arange(3))
        self.register_buffer('unsaved', torch.rand(3), persistent=False)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@torch.no_grad()
def train(model):
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor))
        else:
            tensor.add_(1)


def assert_equal(ours, theirs):
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    for mine, its in zip(ours.module.buffers(), theirs.module.buffers(), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
@FLOATS
def test_averages_equal_mmengines(net, settings, dtype):
    net.blocks.to(dtype)  # the others stay: a model of two kinds of floats
    ours, theirs = OURS(net, **settings), STOCK(net, **settings)
    for step in range(8):
        train(net)
        ours.update_parameters(net), theirs.update_parameters(net)
        assert_equal(ours, theirs)
        assert ours.steps == step + 1
    assert not any(p.requires_grad for p in ours.parameters())
    assert all(p.requires_grad for p in net.blocks[0].parameters())


@pytest.mark.parametrize('update_buffers', [False, True])
def test_what_is_replaced_in_the_model_is_averaged(net, update_buffers):
    averages = [kind(net, 0.25, update_buffers=update_buffers) for kind in (OURS, STOCK)]

    def step(model):
        train(model)
        for average in averages:
            average.update_parameters(model)
        assert_equal(*averages)

    step(net), step(net)
    net.scale = nn.Parameter(torch.rand(()))
    step(net)
    net.unsaved = torch.rand(3)
    step(net)
    net.blocks[0] = nn.Conv2d(2, 3, 1)
    step(net)
    net.blocks = nn.Sequential(*map(deepcopy, net.blocks[:3]))
    net.blocks.add_module('frozen', nn.Linear(2, 2))
    step(net)
    step(deepcopy(net))  # another model
    step(net)


def test_averages_of_mmengine_go_on(net):
    ours, theirs = OURS(net, 0.25), STOCK(net, 0.25)
    for _ in range(3):
        train(net)
        theirs.update_parameters(net)
    assert ours.load_state_dict(deepcopy(theirs.state_dict()))
    train(net)
    ours.update_parameters(net), theirs.update_parameters(net)
    assert_equal(ours, theirs)
    theirs.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize('update_buffers', [False, True])
def test_shared_parameters_are_averaged_once(update_buffers):
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential())
    model[1].append(model[0])
    average = OURS(model, 0.25, update_buffers=update_buffers)
    average.update_parameters(model)
    before = model[0].weight.detach().clone()
    train(model)
    average.update_parameters(model)
    torch.testing.assert_close(
        average.module[0].weight, before.lerp(model[0].weight.detach(), 0.25), rtol=0, atol=0
    )


def test_a_lost_parameter_is_an_error(net):
    average = OURS(net, 0.25)
    average.update_parameters(net)
    del net.blocks.frozen
    with pytest.raises((AttributeError, KeyError), match='frozen'):
        average.update_parameters(net)


def test_an_update_is_a_few_calls(net, monkeypatch):
    average = OURS(net, 0.25)
    average.update_parameters(net)
    calls = []

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            calls.append(function.overloadpacket)
            return function(*args, **(kwargs or {}))

    with Count():
        average.update_parameters(net)
    assert torch.ops.aten.lerp_ not in calls and torch.ops.aten.copy_ not in calls
    assert calls.count(torch.ops.aten._foreach_lerp_) == 1
    assert calls.count(torch.ops.aten._foreach_copy_) == 1
