"""Few groups of parameters, and the same settings for each as by mmengine's own constructor."""

import logging
from copy import deepcopy

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmv2m.engine.optim.fused import use_fused

GROUPED = 'mmv2m.GroupedOptimWrapperConstructor'
ADAMW = dict(type='AdamW', lr=0.5, weight_decay=0.25)
KEYS = {
    'stem': dict(lr_mult=0.5),
    'stem.0': dict(decay_mult=0.0),
    'scale': dict(lr_mult=2.0, decay_mult=0.0, maximize=True),
    'head': dict(lr_mult=1.0, decay_mult=1.0),
}
PARAMWISE = dict(
    none=None,
    empty={},
    flat=dict(flat_decay_mult=0.0),
    norm=dict(norm_decay_mult=0.0),
    bias=dict(bias_lr_mult=2.0, bias_decay_mult=0.5),
    depthwise=dict(dwconv_decay_mult=0.1),
    offsets=dict(dcn_offset_lr_mult=0.1, bias_lr_mult=2.0),
    keys=dict(custom_keys=KEYS),
    reversed_keys=dict(custom_keys=dict(reversed(KEYS.items()))),
    all=dict(
        flat_decay_mult=0.0,
        norm_decay_mult=0.5,
        bias_lr_mult=2.0,
        bias_decay_mult=0.5,
        dwconv_decay_mult=0.1,
        dcn_offset_lr_mult=0.1,
        custom_keys=KEYS,
        bypass_duplicate=True,
    ),
    of_no_effect=dict(custom_keys={'stem': dict(lr_mult=1.0), 'head': dict(decay_mult=1.0)}),
)


class Net(nn.Module):
    """Every kind of parameter that mmengine tells apart."""

    def __init__(self, frozen=True, shared=False):
        super().__init__()
        from mmcv.ops import ModulatedDeformConv2dPack

        self.scale = nn.Parameter(torch.ones(1))
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.deform = ModulatedDeformConv2dPack(4, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)
        if frozen:
            self.depthwise.weight.requires_grad_(False)
        if shared:
            self.again = nn.Sequential(self.head)


def build(model, constructor, paramwise, optimizer=ADAMW, **wrapper):
    cfg = dict(constructor=constructor, optimizer=optimizer, paramwise_cfg=paramwise, **wrapper)
    return build_optim_wrapper(model, deepcopy(cfg))


def settings(optimizer):
    return {
        id(parameter): {key: group[key] for key in optimizer.defaults}
        for group in optimizer.param_groups
        for parameter in group['params']
    }


@pytest.mark.parametrize('paramwise', PARAMWISE)
@pytest.mark.parametrize('optimizer', ['AdamW', 'SGD', 'without decay'])
def test_settings_are_those_of_the_stock_constructor(paramwise, optimizer):
    cfg = dict(ADAMW, type='AdamW' if optimizer == 'without decay' else optimizer)
    if optimizer == 'without decay':
        del cfg['weight_decay']
    paramwise = PARAMWISE[paramwise]
    model = Net(shared=bool(paramwise and paramwise.get('bypass_duplicate')))
    try:
        expected = build(model, 'DefaultOptimWrapperConstructor', paramwise, cfg).optimizer
    except ValueError as error:  # multipliers of a decay that is not named
        with pytest.raises(ValueError, match=str(error)):
            build(model, GROUPED, paramwise, cfg)
        return
    found = build(model, GROUPED, paramwise, cfg).optimizer
    assert settings(found) == settings(expected)
    distinct = {repr(group) for group in settings(expected).values()}
    assert len(found.param_groups) == len(distinct)
    order = [id(p) for group in expected.param_groups for p in group['params']]
    firsts = [id(group['params'][0]) for group in found.param_groups]
    assert firsts == sorted(firsts, key=order.index)
    for group in found.param_groups:
        places = [order.index(id(p)) for p in group['params']]
        assert places == sorted(places)
        assert [dict(model.named_parameters())[n] for n in group['param_names']] == group['params']


def test_the_order_of_keys_changes_nothing():
    model = Net()
    keys, reversed_keys = (
        build(model, GROUPED, PARAMWISE[name]).optimizer.state_dict()
        for name in ('keys', 'reversed_keys')
    )
    assert keys == reversed_keys


def test_settings_of_other_names_part_groups():
    class Optimizer(torch.optim.SGD):
        def __init__(self, params, lr, spared=None):
            super().__init__(params, lr)
            self.spared = spared

    keys = {'norm': dict(spared=True, decay_mult=1.0), 'stem': dict(spared=None)}
    cfg = dict(type=Optimizer, lr=1.0)
    with pytest.raises(ValueError, match='base_wd should not be None'):
        build(Net(), GROUPED, dict(custom_keys=keys), cfg)
    del keys['norm']['decay_mult']
    first, second = build(Net(), GROUPED, dict(custom_keys=keys), cfg).optimizer.param_groups
    assert second['param_names'] == ['norm.weight', 'norm.bias'] and second['spared']
    assert not first.get('spared')


@pytest.mark.parametrize('constructor', [GROUPED, 'DefaultOptimWrapperConstructor'])
def test_shared_parameters_have_to_be_skipped_in_words(constructor):
    model = Net(shared=True)
    with pytest.raises(ValueError, match='more than one'):
        build(model, constructor, dict(flat_decay_mult=0.0))
    groups = build(model, constructor, dict(flat_decay_mult=0.0, bypass_duplicate=True))
    assert len(settings(groups.optimizer)) == len(list(model.parameters())) - 1  # one is frozen


def test_wrapped_models_and_wrappers_settings():
    model = nn.Module()
    model.module = Net()
    wrapper = build(
        model, GROUPED, PARAMWISE['flat'], accumulative_counts=3, clip_grad=dict(max_norm=1.0)
    )
    assert wrapper.clip_grad_kwargs == dict(max_norm=1.0)
    assert wrapper._accumulative_counts == 3
    assert wrapper.optimizer.param_groups[0]['param_names'][0] == 'scale'


def test_the_log_has_a_line_a_group():
    lines = []
    logger = MMLogger.get_instance('groups')
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    build(Net(), GROUPED, PARAMWISE['flat'])
    assert [line for line in lines if 'paramwise_options' in line] == []
    assert 'optimizer group 1 of 2: lr=0.5, weight_decay=0.0; 11 parameters with 39 values' in lines
    assert sum('optimizer group' in line for line in lines) == 2
    build(Net(), GROUPED, dict(custom_keys={'depthwis.': dict(lr_mult=0.5)}))
    assert "custom_keys: no parameter has 'depthwis.' in its name" in lines
    assert 'depthwise.weight is skipped since its requires_grad=False' in lines  # mmengine's own
    build(Net(), 'DefaultOptimWrapperConstructor', PARAMWISE['flat'])
    assert any('paramwise_options' in line for line in lines)


class OnGPU(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


def on_gpu(dtype=torch.float32):
    return torch.ones(1, dtype=dtype).as_subclass(OnGPU)


@pytest.mark.parametrize('kind', [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_steps_are_fused_where_all_parameters_are_floats_on_a_gpu(kind):
    cfg = dict(type=kind.__name__, lr=1.0)
    assert use_fused(cfg, kind, [on_gpu(), on_gpu(torch.float16)]) == dict(cfg, fused=True)
    for others in ([], [torch.ones(1)], [on_gpu(torch.int64)], [on_gpu(torch.complex64)]):
        parameters = [on_gpu(), *others] if others else []
        assert use_fused(cfg, kind, parameters) == cfg


@pytest.mark.parametrize(
    'named', [dict(fused=False), dict(fused=None), dict(foreach=True), dict(differentiable=True)]
)
def test_what_the_user_says_of_the_step_holds(named):
    cfg = dict(type='AdamW', lr=1.0, **named)
    assert use_fused(cfg, torch.optim.AdamW, [on_gpu()]) == cfg


def test_other_optimizers_keep_their_step():
    class Own(torch.optim.AdamW):
        pass

    for kind in (Own, torch.optim.Adagrad, torch.optim.RMSprop):
        assert use_fused(dict(lr=1.0), kind, [on_gpu()]) == dict(lr=1.0)
    assert use_fused(dict(capturable=True), torch.optim.Adam, [on_gpu()])['fused']


def test_nothing_is_fused_on_a_cpu():
    groups = build(Net(), GROUPED, PARAMWISE['flat']).optimizer.param_groups
    assert all(not group['fused'] and not group['foreach'] for group in groups)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('paramwise', ['none', 'flat', 'all'])
def test_fused_steps_on_a_gpu(paramwise):
    torch.manual_seed(0)
    models = [Net(frozen=False).cuda()]
    models.append(deepcopy(models[0]))
    fused, plain = (
        build(model, constructor, PARAMWISE[paramwise]).optimizer
        for model, constructor in zip(
            models, (GROUPED, 'DefaultOptimWrapperConstructor'), strict=True
        )
    )
    assert all(group['fused'] for group in fused.param_groups)
    for _ in range(5):
        for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.clone()
        fused.step(), plain.step()
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_setting_that_nobody_reads_is_refused():
    with pytest.raises(ValueError, match="no setting 'layer_decay_rate'; .* what Grouped"):
        build(Net(), GROUPED, dict(layer_decay_rate=0.9))
    with pytest.raises(ValueError, match="'flat_decay_mul'; did you mean 'flat_decay_mult'"):
        build(Net(), GROUPED, dict(flat_decay_mul=0.0))
    with pytest.raises(ValueError, match="'decay_mul'; did you .*, and AdamW has none"):
        build(Net(), GROUPED, dict(custom_keys={'bias': dict(decay_mul=0.0)}))
