"""Whatever is done to a module of a backbone takes effect as in PyTorch.

Each test does something to every module in turn. The judge is the plain forward, which calls every
module, or the fused forward of a model whose parameters have been changed to the same effect.
"""

import contextlib
import copy
import pickle
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from tiny_backbones import KINDS, called_modules, make, make_image, module_by_module
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

every_kind = pytest.mark.parametrize('kind', KINDS)
HOOKS = (
    'register_forward_pre_hook',
    'register_forward_hook',
    'register_full_backward_pre_hook',
    'register_full_backward_hook',
)


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


def replace(model, name, module):
    parent, _, child = name.rpartition('.')
    model.get_submodule(parent)._modules[child] = module


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
def test_an_adapter_beside_a_linear_layer(kind):
    """LoRA: the layer is inside another that adds to its output."""

    class Adapter(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base_layer = base
            self.down = nn.Linear(base.in_features, 2, bias=False, dtype=torch.float64)
            self.up = nn.Linear(2, base.out_features, bias=False, dtype=torch.float64)

        @property
        def weight(self):
            return self.base_layer.weight

        @property
        def bias(self):
            return self.base_layer.bias

        def forward(self, x):
            return self.base_layer(x) + self.up(self.down(x))

    model, x = make(kind), make_image(kind)
    linear = [(n, m) for n, m in called_modules(model) if isinstance(m, nn.Linear)]
    for name, module in linear:
        adapter = Adapter(module)
        module.weight.data += adapter.up.weight.data @ adapter.down.weight.data
        truth = infer(model, x)
        module.weight.data -= adapter.up.weight.data @ adapter.down.weight.data
        replace(model, name, adapter)
        y = run(model, x)
        y.sum().backward()
        assert_same(y.detach(), truth, name)
        assert adapter.up.weight.grad.abs().max() > 0, name
        replace(model, name, module)


@every_kind
def test_pruned_and_trained(kind):
    """Three steps, all layers pruned: zeros stay, and what is learned is in use."""
    results = []
    for plainly in (False, True):
        model, x = make(kind), make_image(kind)
        layers = [m for _, m in called_modules(model) if isinstance(m, LAYERS)]
        for module in layers:
            prune.l1_unstructured(module, 'weight', amount=0.4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with module_by_module() if plainly else contextlib.nullcontext():
            for _ in range(3):
                gradients(model, x)
                optimizer.step()
        in_use = infer(model, x)
        for module in layers:
            mask = module.weight_mask
            prune.remove(module, 'weight')
            assert not module.weight[mask == 0].any()
        assert_same(infer(model, x), in_use)
        results.append(model.state_dict())
    assert_same(*results)


@every_kind
def test_each_pruned_layer_by_itself(kind):
    model, x = make(kind), make_image(kind)
    for name, module in weighted(model):
        kept = module.weight.data.clone()
        prune.random_unstructured(module, 'weight', amount=0.5)
        result = gradients(model, x)
        prune.remove(module, 'weight')
        truth = infer(model, x)
        assert_same(result['output'], truth, name)
        assert f'{name}.weight_orig' in result, name
        module.weight.data.copy_(kept)


def outcome(model, x):
    """The output, or the kind of error."""
    try:
        return infer(model, x)
    except (RuntimeError, TypeError, ValueError) as error:
        return type(error)


@every_kind
def test_one_module_in_another_dtype(kind):
    """What PyTorch refuses is refused, what it computes is computed the same."""
    model, x = make(kind), make_image(kind)
    for name, module in called_modules(model):
        if not list(module.parameters()):
            continue
        kept = [p.data for p in module.parameters()]
        module.float()
        result = outcome(model, x)
        with module_by_module():
            truth = outcome(model, x)
        if isinstance(truth, type):
            assert result is truth, name
        else:
            assert result.dtype is truth.dtype, name
            assert torch.allclose(result.double(), truth.double(), atol=1e-4), name
        module.double()
        for parameter, data in zip(module.parameters(), kept, strict=True):
            parameter.data = data


@every_kind
def test_dynamic_quantisation(kind):
    """PyTorch's own: it replaces linear layers, whose weights are no tensors any more."""
    model, x = make(kind, torch.float32), make_image(kind, torch.float32)
    if not any(type(m) is nn.Linear for m in model.modules()):
        pytest.skip('no linear layers')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    assert any(type(m).__module__.startswith('torch.ao') for m in quantised.modules())
    y = infer(quantised, x)
    with module_by_module():
        assert torch.allclose(infer(quantised, x), y, atol=1e-5)
    error = (y - infer(model, x)).norm() / y.norm()
    assert 0 < error < 0.2


@every_kind
def test_a_weight_that_two_layers_share(kind):
    model, x = make(kind), make_image(kind)
    layers, tied = list(weighted(model)), 0
    for k, (name, module) in enumerate(layers):
        own = module.weight
        for _, other in layers[k + 1 :]:
            if other.weight.shape == own.shape and type(other) is type(module):
                kept, other.weight = other.weight, own
                result = gradients(model, x)
                with module_by_module():
                    truth = gradients(model, x)
                assert_same(result, truth, name)
                other.weight = kept
                tied += 1
                break
    assert tied


@every_kind
def test_copies_have_hooks_and_parametrizations(kind):
    model, x = make(kind), make_image(kind)
    names = [n for n, m in weighted(model) if isinstance(m, nn.Linear)]
    linear = model.get_submodule(names[len(names) // 2])
    linear.register_forward_hook(doubled)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    truth = infer(model, x)
    for other in copies:
        assert torch.equal(infer(other, x), truth)
    parametrizations.weight_norm(linear)
    parametrizations.orthogonal(model.get_submodule(names[0]))
    truth = infer(model, x)
    assert_same(infer(copy.deepcopy(model), x), truth)
    with module_by_module():
        assert_same(infer(model, x), truth)


def doubled(module, args, y):
    return 2 * y


@every_kind
def test_checkpointing_with_a_hook(kind):
    model, x = make(kind).train(), make_image(kind)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    model.stages[0][0].register_forward_hook(doubled)
    truth = gradients(model, x)
    model.with_cp = True  # of all stages, although they are built already
    assert model.with_cp and all(stage.with_cp for stage in model.stages)
    assert_same(gradients(model, x), truth)


@every_kind
def test_stages_and_blocks_give_maps(kind):
    model, x, shapes = make(kind), make_image(kind), []
    for stage in model.stages:
        for module in (stage, *stage):
            module.register_forward_hook(lambda m, args, y: shapes.append((args[0].dim(), y.dim())))
    infer(model, x)
    assert len(shapes) == sum(1 + len(stage) for stage in model.stages)
    assert set(shapes) == {(4, 4)}


def test_compiled_modules_run_compiled():
    model, x, calls = make('plain'), make_image('plain'), []
    truth = infer(model, x)
    for module in (model.stages[0][1], model.stages[0][0].mixer.out_proj):
        own = module._call_impl

        def compiled(*args, own=own):
            calls.append(own)
            return own(*args)

        module._compiled_call_impl = compiled  # what Module.compile() sets
    assert_same(infer(model, x), truth)
    assert len(calls) == 2


def test_nothing_falls_back_by_itself(caplog):
    from mmv2m.models.layers import door

    door._TOLD.clear()
    caplog.set_level('WARNING', 'mmv2m')
    for kind in KINDS:
        infer(make(kind), make_image(kind))
    assert not [record for record in caplog.records if 'module by module' in record.message]


def test_what_falls_back_says_so_once(caplog):
    from mmv2m.models.layers import door

    door._TOLD.clear()
    caplog.set_level('WARNING', 'mmv2m')
    model, x = make('pyramid'), make_image('pyramid')
    model.stages[0][0].mixer.in_proj.register_forward_hook(doubled)
    for _ in range(2):
        infer(model, x)
    assert [record.message for record in caplog.records if 'slower' in record.message] == [
        "SS2D runs module by module, which is slower: its module 'in_proj' has hooks"
    ]


class Centred(nn.LayerNorm):
    """A norm of a subclass that computes something else."""

    def forward(self, x):
        return x - x.mean(-1, keepdim=True)


@every_kind
def test_a_norm_of_a_subclass_is_used_in_every_block(kind):
    cls, settings = KINDS[kind]
    model, calls = cls(**settings, norm_cfg=dict(type=Centred)).eval(), []
    norms = [m for m in model.modules() if type(m) is Centred]
    for norm in norms:
        norm.forward = partial(note_forward, calls, norm)
    y = infer(model, make_image(kind, torch.float32))
    assert torch.isfinite(y).all()
    blocks = [block for stage in model.stages for block in stage if hasattr(block, 'norm')]
    assert {id(block.norm) for block in blocks} <= {id(norm) for norm in norms}
    assert {id(norm) for norm in calls} == {id(norm) for norm in norms}


def note_forward(calls, norm, x):
    calls.append(norm)
    return Centred.forward(norm, x)


@every_kind
@pytest.mark.parametrize('norm', ['LN', 'RMSNorm'])
def test_norms_without_weights(kind, norm):
    """They work, in a model that was cast to half precision too, whose stream is float32."""
    cls, settings = KINDS[kind]
    model = cls(**settings, norm_cfg=dict(type=norm, elementwise_affine=False)).eval()
    x = make_image(kind, torch.float32)
    truth, y = infer(model, x), infer(model.bfloat16(), x.bfloat16())
    assert y.dtype is torch.bfloat16
    assert (y.float() - truth).norm() < 0.1 * truth.norm()


@every_kind
def test_functional_calls(kind):
    """Tensors in the place of parameters, as :func:`torch.func.functional_call` puts them there."""
    model, x = make(kind), make_image(kind)
    halves = {name: (p / 2).detach() for name, p in model.named_parameters()}
    y = torch.func.functional_call(model, halves, (x,))[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter /= 2
    assert_same(y, infer(model, x))
