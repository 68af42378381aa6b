"""What tests do to modules of a backbone, and how they compare what comes of it."""

import pytest
import torch
from tiny_backbones import KINDS, called_modules, module_by_module
from torch import nn

every_kind = pytest.mark.parametrize('kind', KINDS)


def weighted(model):
    """Name and module of the layers with a weight."""
    return [(n, m) for n, m in called_modules(model) if isinstance(m, LAYERS)]


LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm, nn.RMSNorm, nn.BatchNorm2d)


def note_call(calls, name, *args):
    calls.append(name)


def run(model, x):
    return model(x)[0]


def infer(model, x):
    with torch.no_grad():
        return run(model, x)


def gradients(model, x):
    """Output and gradients of the parameters; each has a name."""
    model.zero_grad()
    y = run(model, x)
    (y * torch.linspace(-1, 1, y.numel()).to(y).view(y.shape)).sum().backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {'output': y.detach(), **grads}


def assert_same(result, truth, name=''):
    for key in truth if isinstance(truth, dict) else ():
        assert_same(result[key], truth[key], f'{name}: {key}')
    if not isinstance(truth, dict):
        error = (result - truth).double().norm() / (truth.double().norm() + 1e-3)
        assert error < 1e-8, (name, error)


def scale_input(args):
    return (1.1 * args[0], *args[1:])


def scale_output(y):
    return (0.9 * y[0], *y[1:]) if isinstance(y, tuple) else 0.9 * y


def scale(module):
    """Hooks that change what goes in and what comes out."""
    before = module.register_forward_pre_hook(lambda module, args: scale_input(args))
    after = module.register_forward_hook(lambda module, args, y: scale_output(y))
    return before, after


def scaled_truth(model, module, x):
    """What a model computes if one module's input and output are changed."""
    handles = scale(module)
    with module_by_module():
        y = infer(model, x)
    for handle in handles:
        handle.remove()
    return y


def replace(model, name, module):
    parent, _, child = name.rpartition('.')
    model.get_submodule(parent)._modules[child] = module


def doubled(module, args, y):
    return 2 * y
