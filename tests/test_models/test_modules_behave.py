"""Whatever is done to a module of a backbone takes effect as in PyTorch.

Each test does something to every module in turn. The judge is the plain forward, which calls every
module, or the fused forward of a model whose parameters have been changed to the same effect.
"""

import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from module_changes import (
    assert_same,
    every_kind,
    gradients,
    infer,
    note_call,
    replace,
    run,
    scale,
    scale_input,
    scale_output,
    scaled_truth,
    weighted,
)
from tiny_backbones import called_modules, make, make_image
from torch import nn
from torch.nn.utils import parametrize

HOOKS = (
    'register_forward_pre_hook',
    'register_forward_hook',
    'register_full_backward_pre_hook',
    'register_full_backward_hook',
)


@every_kind
def test_every_module_is_called_in_the_plain_forward(kind):
    model, x = make(kind), make_image(kind)
    truth, calls, expected = gradients(model, x), [], set()
    for name, module in called_modules(model):
        for hook in HOOKS:
            expected.add((name, hook))
            getattr(module, hook)(partial(note_call, calls, (name, hook)))
    assert_same(gradients(model, x.requires_grad_()), truth)
    assert set(calls) == expected


@every_kind
def test_hooks_on_one_module(kind):
    """They fire, and what they change takes effect, wherever other modules are fused."""
    model, x = make(kind), make_image(kind)
    plain = infer(model, x)
    for name, module in called_modules(model):
        truth = scaled_truth(model, module, x)
        assert not torch.equal(truth, plain), name
        fired = []
        handles = list(scale(module))
        for hook in HOOKS:
            note = partial(note_call, fired, hook)
            handles.append(getattr(module, hook)(note))
        y = run(model, x.requires_grad_())
        y.sum().backward()
        assert_same(y.detach(), truth, name)
        assert set(fired) == set(HOOKS), name
        for handle in handles:
            handle.remove()
    assert torch.equal(infer(model, x), plain)


@pytest.mark.parametrize('kind', ['plain', 'local', 'vmamba', 'efficient'])
def test_hooks_of_the_former_kind(kind):
    """``register_backward_hook``, which PyTorch still has."""
    model, x = make(kind), make_image(kind)
    for name, module in called_modules(model):
        if name == 'patch_embed' and kind == 'efficient':
            continue  # returns a size too, which PyTorch's hook does not take
        fired = []
        handle = module.register_backward_hook(partial(note_call, fired, name))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            run(model, x.requires_grad_()).sum().backward()
        assert fired, name
        handle.remove()


@pytest.mark.parametrize('hook', [*HOOKS, None])
def test_hooks_on_all_modules(hook):
    model, x, seen = make('pyramid'), make_image('pyramid'), set()
    truth = gradients(model, x)
    register = getattr(
        nn.modules.module,
        (hook or 'register_forward_hook').replace('register_', 'register_module_'),
    )
    handle = register(lambda module, *args: seen.add(module) if hook else None)
    assert_same(gradients(model, x), truth)
    handle.remove()
    assert not hook or seen >= {module for _, module in called_modules(model)}


class Wrapper(nn.Module):
    """As FSDP wraps a module: it has all the attributes of what is inside."""

    def __init__(self, module):
        super().__init__()
        self.inside = module

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('inside'), name)

    def forward(self, *args, **kwargs):
        return scale_output(self.inside(*scale_input(args), **kwargs))


def as_subclass(module):
    """Make a module an instance of a subclass that computes something else."""
    former = type(module)

    def forward(self, *args, **kwargs):
        return scale_output(former.forward(self, *scale_input(args), **kwargs))

    module.__class__ = type(f'Other{former.__name__}', (former,), {'forward': forward})
    return former


@every_kind
def test_a_subclass_a_wrapper_and_a_forward_of_its_own(kind):
    model, x = make(kind), make_image(kind)
    plain = infer(model, x)
    for name, module in called_modules(model):
        truth = scaled_truth(model, module, x)

        former = as_subclass(module)
        assert_same(infer(model, x), truth, f'{name} as a subclass')
        module.__class__ = former

        replace(model, name, Wrapper(module))
        assert_same(infer(model, x), truth, f'{name} in a wrapper')
        replace(model, name, module)

        def forward(*args, own=module.forward, **kwargs):
            return scale_output(own(*scale_input(args), **kwargs))

        module.forward = forward  # as accelerate's hooks do it
        assert_same(infer(model, x), truth, f'{name} with a forward of its own')
        del module.forward
    assert torch.equal(infer(model, x), plain)


class Half(nn.Module):
    """A parametrization."""

    def forward(self, weight):
        return weight / 2


def with_property(module):
    """As wrappers of weights do it: the weight is computed when it is asked for."""
    former = type(module)
    module.real = module._parameters.pop('weight')
    get = property(lambda self: self.real / 2)
    module.__class__ = type('Wrapped', (former,), {'weight': get})

    def undo():
        module.__class__ = former
        module.weight = module._parameters.pop('real')

    return undo


def with_parametrization(module):
    parametrize.register_parametrization(module, 'weight', Half())
    return lambda: parametrize.remove_parametrizations(module, 'weight', leave_parametrized=False)


@every_kind
@pytest.mark.parametrize('change', [with_property, with_parametrization])
def test_weights_that_are_computed(kind, change):
    model, x = make(kind), make_image(kind)
    plain = infer(model, x)
    for name, module in weighted(model):
        module.weight.data /= 2
        truth = infer(model, x)
        module.weight.data *= 2
        undo = change(module)
        y = run(model, x)
        y.sum().backward()
        assert_same(y.detach(), truth, name)
        assert not torch.equal(y, plain), name
        undo()
    assert_same(infer(model, x), plain)


class Halved(torch.Tensor):
    """A tensor subclass that linear layers see halved."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is F.linear:
            x, weight, *bias = args
            return F.linear(x, weight.as_subclass(torch.Tensor) / 2, *bias)
        return super().__torch_function__(function, types, args, kwargs or {})


@every_kind
def test_weights_of_a_tensor_subclass(kind):
    """As torchao and DTensor have them."""
    model, x = make(kind), make_image(kind)
    for name, module in weighted(model):
        if isinstance(module, nn.Linear):
            module.weight.data /= 2
            truth = infer(model, x)
            module.weight.data *= 2
            own = module.weight
            module.weight = nn.Parameter(own.detach().as_subclass(Halved))
            assert type(module.weight) is Halved
            assert_same(infer(model, x), truth, name)
            module.weight = own


@every_kind
def test_another_forward_of_a_class(kind, monkeypatch):
    """As tools replace :meth:`torch.nn.Linear.forward` for all layers of a process."""
    model, x = make(kind), make_image(kind)
    truth = infer(model, x)
    for cls in {type(module) for _, module in called_modules(model)}:
        calls, own = [], cls.forward

        def forward(self, *args, calls=calls, own=own, **kwargs):
            calls.append(self)
            return own(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(cls, 'forward', forward)
            assert_same(infer(model, x), truth, cls.__name__)
        assert {type(module) for module in calls} >= {cls}, cls.__name__
