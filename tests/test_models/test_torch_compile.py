"""torch.compile keeps the operators, and what is done to a module takes effect there too."""

from collections import Counter

import pytest
import torch
from tiny_backbones import KINDS, make, make_image
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch._subclasses.fake_tensor import FakeTensorMode

from mmv2m.ops.backends import cuda
from mmv2m.ops.operator import Operator

every_kind = pytest.mark.parametrize('kind', ['plain', 'pyramid', 'vmamba', 'coupled'])


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()


def make_in_training(kind):
    """On the fastest backend; each image's branches may be dropped."""
    cls, settings = KINDS[kind]
    torch.manual_seed(0)
    return cls(**{**settings, 'scan_backend': 'auto', 'drop_path_rate': 0.5}).train()


def results(run, model, x):
    """A pass in either direction, with the same random numbers each time."""
    torch.manual_seed(3)
    model.zero_grad()
    (y,) = run(x)
    (y * torch.linspace(-1, 1, y.numel()).to(y).view(y.shape)).sum().backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {'output': y.detach(), **grads}


def assert_same(found, truth):
    assert found.keys() == truth.keys()
    for name, expected in truth.items():
        error = (found[name] - expected).norm() / (expected.norm() + 1e-3)
        assert error < 1e-4, (name, error)


@every_kind
def test_trains_as_eagerly(kind):
    model, x = make_in_training(kind), torch.rand(4, 3, 16, 16)
    truth = results(model, model, x)
    without = results(model.eval(), model, x)
    compiled = torch.compile(model.train(), backend='aot_eager', fullgraph=True)
    assert_same(results(compiled, model, x), truth)
    assert not torch.allclose(truth['output'], without['output'])  # some branches are dropped


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The backend of GPUs is taken for tensors that have shapes only."""
    pytest.importorskip('triton')
    monkeypatch.setattr(cuda, 'refusal', lambda x: None)
    monkeypatch.setattr(cuda, 'DEVICES', None)


def step(run, size):
    """A training step under autocast."""
    with torch.autocast('cpu', torch.bfloat16):
        (y,) = run(torch.rand(4, 3, size, size))
    y.float().sum().backward()


def change_nothing(model):
    pass


def count_operators(kind, monkeypatch, change=change_nothing):
    """How often a model calls each operator, eagerly; of tensors without numbers."""
    called, call = Counter(), Operator.__call__

    def count(self, *args):
        called[self.name] += not self.name.endswith('_backward')
        return call(self, *args)

    with monkeypatch.context() as patch, FakeTensorMode():
        patch.setattr(Operator, '__call__', count)
        model = make_in_training(kind)
        change(model)
        step(model, 32)
    return +called


def count_nodes(kind, change=change_nothing):
    """What the compiled forward and the compiled backward pass call, by name.

    Nothing is computed: there are zeros where results would be.
    """
    counts = []

    def collect(module, inputs):
        nodes = module.graph.nodes
        counts.append(Counter(str(node.target) for node in nodes if 'call' in node.op))
        (results,) = next(node for node in nodes if node.op == 'output').args
        shapes = [node if node is None else node.meta['val'] for node in results]
        return make_boxed_func(lambda *args: [v if v is None else zeros_like(v) for v in shapes])

    model = make_in_training(kind)
    change(model)
    backend = aot_autograd(fw_compiler=collect, bw_compiler=collect)
    step(torch.compile(model, backend=backend, fullgraph=True), 32)
    assert len(counts) == 2
    return counts


def zeros_like(fake):
    return torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype).zero_()


def of_ours(nodes):
    names = ((name.split('.'), count) for name, count in nodes.items())
    return Counter({name[1]: count for name, count in names if name[0] == 'mmv2m'})


CONVOLUTIONS = dict(plain=0, pyramid=3, vmamba=5, coupled=0)
"""Two of the stem, one between the two stages, and one in each of VMamba's two mixers."""

FUSED = dict(
    plain={'ss2d'},
    pyramid={'ss2d', 'mlp', 'add_norm', 'channel_norm'},
    vmamba={'directional_ssm', 'mlp', 'add_norm', 'channel_norm'},
    coupled={'coupled_ssm', 'gated_linear', 'add_norm'},
)


@every_kind
def test_operators_are_nodes(kind, as_on_a_gpu, monkeypatch):
    """All that run eagerly; and no convolution of PyTorch's.

    For that one Inductor would copy all maps, see :mod:`mmv2m.ops.convolution`.
    """
    eagerly = count_operators(kind, monkeypatch)
    assert FUSED[kind] <= eagerly.keys()
    forward, backward = count_nodes(kind)
    expected = eagerly + Counter(convolution=CONVOLUTIONS[kind])
    assert of_ours(forward) == expected
    assert of_ours(backward) == {f'{name}_backward': n for name, n in expected.items()}
    assert not any('aten.conv' in name for name in (*forward, *backward))


def hook_the_mlp(model):
    model.stages[0][0].ffn.layers[0][0].register_forward_hook(lambda module, args, y: 0.9 * y)


def test_a_hooked_module_is_called(as_on_a_gpu, monkeypatch):
    """And all others are fused as before."""
    plain, _ = count_nodes('pyramid')
    torch._dynamo.reset()
    hooked, _ = count_nodes('pyramid', change=hook_the_mlp)
    assert of_ours(plain) - of_ours(hooked) == Counter(mlp=1)
    assert not of_ours(hooked) - of_ours(plain)
    assert of_ours(hooked) == count_operators(
        'pyramid', monkeypatch, change=hook_the_mlp
    ) + Counter(convolution=3)


class Adapter(nn.Module):
    """As LoRA wraps a linear layer."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base
        self.down = nn.Linear(base.in_features, 2, bias=False).to(base.weight)
        self.up = nn.Linear(2, base.out_features, bias=False).to(base.weight)

    def forward(self, x):
        return self.base_layer(x) + self.up(self.down(x))


def adapt(model, name):
    parent, _, child = name.rpartition('.')
    model.get_submodule(parent)._modules[child] = Adapter(model.get_submodule(name))


def halve(model, name):
    model.get_submodule(name).register_forward_hook(lambda module, args, y: 0.5 * y)


def overwrite(model, name):
    module = model.get_submodule(name)
    module.forward = lambda x, *args, own=module.forward: 0.5 * own(x, *args)


@pytest.mark.parametrize(
    ('change', 'name'),
    [
        (adapt, 'stages.0.0.mixer.in_proj'),
        (adapt, 'stages.0.0.ffn.layers.1'),
        (halve, 'stages.0.0.mixer.out_proj'),
        (halve, 'stages.0.0.norm'),
        (halve, 'stages.0.0'),
        (halve, 'patch_embed.first.conv'),
        (halve, 'patch_embed.second.norm'),
        (overwrite, 'stages.0.0.mixer'),
        (overwrite, 'stages.0.0.ffn'),
    ],
)
def test_what_is_done_to_a_module_takes_effect(change, name):
    model, x = make('pyramid', torch.float32), make_image('pyramid', torch.float32)
    before = results(model, model, x)
    change(model, name)
    truth = results(model, model, x)
    assert not torch.allclose(truth['output'], before['output'])
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    assert_same(results(compiled, model, x), truth)


@pytest.mark.parametrize('change', [adapt, overwrite])
def test_modules_changed_after_the_first_call(change):
    """A wrapper is seen at once, a forward function after a reset."""
    name = 'stages.0.0.mixer.in_proj'
    model, x = make('pyramid', torch.float32), make_image('pyramid', torch.float32)
    with torch.no_grad():
        compiled = torch.compile(model, backend='eager', fullgraph=True)
        (before,) = compiled(x)
        change(model, name)
        (changed,) = model(x)
        if change is overwrite:
            torch.compiler.reset()
        assert not torch.allclose(changed, before)
        assert torch.allclose(compiled(x)[0], changed)


@pytest.mark.parametrize('guards', [False, True])
@pytest.mark.parametrize('name', ['stages.0.0.mixer.in_proj', 'stages.0.0.ffn'])
def test_hooks_registered_after_the_first_call(name, guards):
    """As of any module of PyTorch's: they take effect where hooks are guarded, only there."""
    model, x = make('pyramid', torch.float32), make_image('pyramid', torch.float32)
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=not guards), torch.no_grad():
        compiled = torch.compile(model, backend='eager', fullgraph=True)
        (before,) = compiled(x)
        halve(model, name)
        (hooked,) = model(x)
        assert not torch.allclose(hooked, before)
        assert torch.allclose(compiled(x)[0], hooked if guards else before)
