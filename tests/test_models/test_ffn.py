import naive
import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN as MMCVFFN
from torch import nn

from mmv2m.models.layers import FFN
from mmv2m.models.layers import ffn as module

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
GELU = dict(type='GELU')


def make(backend='reference', **settings):
    """mmcv's FFN and ours, with the same parameters."""
    settings = dict(act_cfg=GELU, add_identity=False) | settings
    theirs = MMCVFFN(6, 10, **settings).to(DEVICE)
    ours = FFN(6, 10, backend=backend, **settings).to(DEVICE)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def run(ffn, x, **options):
    """Output, and gradients of the input and of the parameters."""
    x = x.detach().requires_grad_()
    y = ffn(x, **options)
    # A fixed upstream gradient: errors of y itself must not show in those of the inputs.
    grad_y = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    return [y, *torch.autograd.grad(y, (x, *ffn.parameters()), grad_y)]


def calls_of_the_operator(monkeypatch):
    calls = []
    operator = module.mlp

    def counted(*args):
        calls.append(args)
        return operator(*args)

    monkeypatch.setattr(module, 'mlp', counted)
    return calls


@pytest.mark.parametrize('backend', ['reference', 'triton'])
@pytest.mark.parametrize(
    'settings',
    [
        {},
        dict(add_identity=True),
        dict(layer_scale_init_value=0.5),
        dict(dropout_layer=dict(type='DropPath', drop_prob=0.0)),
    ],
    ids=lambda settings: next(iter(settings), 'plain'),
)
def test_agrees_with_mmcvs(settings, backend, monkeypatch):
    if backend == 'triton':
        pytest.importorskip('triton')
    calls = calls_of_the_operator(monkeypatch)
    theirs, ours = make(backend, **settings)
    x = torch.randn(2, 3, 5, 6, device=DEVICE)
    for result, truth in zip(run(ours, x), run(theirs, x), strict=True):
        assert naive.relative_error(result, truth) < 1e-5
    if settings.get('add_identity'):
        truth = theirs(x, identity=2 * x)
        assert naive.relative_error(ours(x, identity=2 * x), truth) < 1e-5
    assert calls


def test_state_dict_is_mmcvs():
    theirs, ours = make()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert 'layers.0.0.weight' in ours.state_dict()


@pytest.mark.parametrize(
    'settings',
    [
        dict(num_fcs=3),
        dict(act_cfg=dict(type='ReLU')),
        dict(act_cfg=dict(type='GELU', approximate='tanh')),
        dict(ffn_drop=0.5),
    ],
    ids=['three', 'relu', 'tanh', 'dropout'],
)
def test_other_mlps_run_as_mmcvs(settings, monkeypatch):
    calls = calls_of_the_operator(monkeypatch)
    theirs, ours = make(**settings)
    x = torch.randn(2, 3, 6, device=DEVICE)
    results = []
    for ffn in (ours, theirs):
        torch.manual_seed(0)
        results.append(run(ffn, x))
    torch.testing.assert_close(*results)
    assert not calls


def test_dropout_counts_in_training_only(monkeypatch):
    calls = calls_of_the_operator(monkeypatch)
    theirs, ours = make(ffn_drop=0.5)
    x = torch.randn(2, 6, device=DEVICE)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert len(calls) == 1


def get_linear(ffn, number):
    return ffn.layers[0][0] if number == 0 else ffn.layers[1]


@pytest.mark.parametrize('number', [0, 1])
def test_a_layer_that_replaces_a_linear_one_is_run(number):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    theirs, ours = make()
    for ffn in (theirs, ours):
        layer = get_linear(ffn, number)
        doubled = Doubled(layer.in_features, layer.out_features).to(DEVICE)
        doubled.load_state_dict(layer.state_dict())
        if number:
            ffn.layers[1] = doubled
        else:
            ffn.layers[0][0] = doubled
    x = torch.randn(2, 6, device=DEVICE)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize('number', [0, 1])
def test_hooks_on_a_linear_layer_run(number, monkeypatch):
    calls, seen = calls_of_the_operator(monkeypatch), []
    theirs, ours = make()
    hook = get_linear(ours, number).register_forward_pre_hook(lambda *args: seen.append(args))
    x = torch.randn(2, 6, device=DEVICE)
    torch.testing.assert_close(ours(x), theirs(x))
    assert len(seen) == 1 and not calls
    hook.remove()
    ours(x)
    assert len(seen) == len(calls) == 1


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    theirs, ours = make()
    x = torch.randn(2, 3, 6, device=DEVICE)
    with torch.autocast(DEVICE, dtype):
        results = [run(ffn, x) for ffn in (ours, theirs)]
    assert results[0][0].dtype == dtype
    for result, truth in zip(*results, strict=True):
        assert result.dtype == truth.dtype
        assert naive.relative_error(result, truth) < 2e-2


def test_float64():
    theirs, ours = (ffn.double() for ffn in make('auto'))
    x = torch.randn(2, 3, 6, device=DEVICE, dtype=torch.float64)
    torch.testing.assert_close(run(ours, x), run(theirs, x))


def test_keeps_its_hidden_layer_once():
    pytest.importorskip('triton')
    x = torch.randn(2, 4, 6, device=DEVICE, requires_grad=True)
    counts = []
    for ffn in make('triton'):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, k=kept: k.append(t) or t, id):
            ffn(x)
        counts.append(len({t.data_ptr() for t in kept if t.numel() == 2 * 4 * 10}))
    assert counts == [2, 1]


def test_compiles_and_exports_as_one_node():
    pytest.importorskip('triton')
    _, ours = make('triton')
    x = torch.randn(2, 3, 6, device=DEVICE, requires_grad=True)
    compiled = torch.compile(ours, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(run(compiled, x), run(ours, x))
    exported = torch.export.export(ours, (x.detach(),))
    nodes = [str(node.target) for node in exported.graph.nodes if 'mmv2m' in str(node.target)]
    assert nodes == ['mmv2m.mlp.default']
