"""Adapters, pruning, dtypes, quantisation, copies and norms take effect as in PyTorch.

The judge is the plain forward, which calls every module, or the fused forward of a model whose
parameters have been changed to the same effect.
"""

import contextlib
import copy
import pickle
import warnings
from functools import partial

import pytest
import torch
from module_changes import (
    assert_same,
    doubled,
    every_kind,
    gradients,
    infer,
    replace,
    run,
    weighted,
)
from tiny_backbones import KINDS, called_modules, make, make_image, module_by_module
from torch import nn
from torch.nn.utils import parametrizations, prune


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
        layers = [m for _, m in weighted(model)]
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


def test_shapes_alone_are_not_called_slow(caplog):
    from mmv2m.models.layers import door

    door._TOLD.clear()
    caplog.set_level('WARNING', 'mmv2m')
    with module_by_module():
        infer(make('pyramid').to('meta'), make_image('pyramid').to('meta'))
    assert not caplog.records


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
