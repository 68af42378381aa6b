"""Resumed training, with other groups of parameters or the same, equals training in one go."""

from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from runners import forget_runners
from tiny_digits import TINY_DIGITS
from torch import nn

from mmv2m.engine.errors import UserError
from mmv2m.engine.optim.regrouping import regroup_checkpoint
from mmv2m.engine.runner import build_runner

STOCK = 'DefaultOptimWrapperConstructor'
GROUPED = 'GroupedOptimWrapperConstructor'
FLAT = dict(flat_decay_mult=0.0, custom_keys={'pos_embed': dict(lr_mult=0.5, decay_mult=0.0)})
LAYERS = dict(layer_decay_rate=0.7, flat_decay_mult=0.0)
# How a run is saved, and how it goes on: constructors and their paramwise_cfg.
RUNS = {
    'one group a parameter': ((STOCK, FLAT), (GROUPED, FLAT)),
    'grouped': ((GROUPED, FLAT), (GROUPED, FLAT)),
    'no options': ((STOCK, None), (GROUPED, None)),
    # The settings of the checkpoint hold, as they do in PyTorch.
    'one group, then several': ((STOCK, None), (GROUPED, FLAT)),
    'equal settings, then one group': ((STOCK, dict(norm_decay_mult=1.0)), (GROUPED, None)),
    'layers, a name a group': (
        ('LearningRateDecayOptimWrapperConstructor', LAYERS),
        ('LayerDecayOptimWrapperConstructor', LAYERS),
    ),
}
EMA = dict(type='EMAHook', momentum=0.25)


@pytest.fixture(autouse=True)
def no_runner_left_over():
    forget_runners()
    yield
    forget_runners()


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text(TINY_DIGITS)
    cfg = Config.fromfile(path)
    cfg.launcher = 'none'
    cfg.randomness = dict(seed=0)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=4)
    cfg.update(dict(val_cfg=None, val_dataloader=None, val_evaluator=None))
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.1, end=3, by_epoch=False),
        dict(type='CosineAnnealingLR', eta_min=1e-4, begin=1, end=4),
        dict(type='PolyLR', eta_min=1e-4, power=2.0, begin=2, end=4),
    ]
    return cfg


def run(
    cfg, name, how, ema_type='ExponentialMovingAverage', make=build_runner, resume=None, hooks=()
):
    forget_runners()
    cfg = cfg.copy()
    cfg.work_dir = str(cfg.filename).replace('tiny.py', name)
    constructor, paramwise = how
    cfg.optim_wrapper = dict(
        constructor=constructor,
        optimizer=dict(type='AdamW', lr=0.02, weight_decay=0.1, fused=False),
        paramwise_cfg=paramwise,
    )
    # build_runner registers a ResumeGroupsHook too: the later one finds nothing to do.
    cfg.custom_hooks = [dict(EMA, ema_type=ema_type), *hooks]
    if resume:
        cfg.resume, cfg.load_from = True, f'{cfg.work_dir}/../{resume}'
    runner = make(cfg)
    runner.train()
    return runner


def state(runner):
    """Weights, their average, moments and learning rates, by name."""
    names = {id(p): name for name, p in runner.model.named_parameters()}
    optimizer = runner.optim_wrapper.optimizer
    (ema,) = (hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    rates = {
        names[id(p)]: {key: group[key] for key in ('lr', 'initial_lr', 'weight_decay')}
        for group in optimizer.param_groups
        for p in group['params']
    }
    moments = {names[id(p)]: moments for p, moments in optimizer.state.items()}
    return dict(
        weights=runner.model.state_dict(),
        average=ema.ema_model.state_dict(),
        moments=moments,
        rates=rates,
    )


@pytest.mark.parametrize('how', RUNS)
def test_resumed_training_equals_training_in_one_go(how, cfg):
    before, after = RUNS[how]
    whole = state(run(cfg, 'whole', before))
    runner = run(
        cfg,
        'rest',
        after,
        'mmv2m.ForeachExponentialMovingAverage',
        resume='whole/epoch_2.pth',
        hooks=[dict(type='mmv2m.ResumeGroupsHook')] if before[0] == STOCK else [],
    )
    assert runner.iter == 8
    rest = state(runner)
    assert set(whole['moments']) == {name for name, _ in runner.model.named_parameters()}
    # On a GPU, averages of all weights at once are rounded otherwise than those of one at a time.
    averages = [run.pop('average') for run in (rest, whole)]
    atol = 1e-6 if torch.cuda.is_available() else 0
    torch.testing.assert_close(*averages, rtol=0, atol=atol)
    # mmengine brings the count of steps to the GPU with what it resumes.
    torch.testing.assert_close(rest, whole, rtol=0, atol=0, check_device=False)
    for scheduler in runner.param_schedulers:
        groups = runner.optim_wrapper.param_groups
        assert len(scheduler.base_values) == len(scheduler.get_last_value()) == len(groups)
        assert scheduler.base_values == [group['initial_lr'] for group in groups]


@pytest.fixture
def an_epoch(cfg):
    """The config of one epoch more than a run of mmengine's own constructor has made."""
    cfg.train_cfg.max_epochs = 1
    run(cfg, 'whole', (STOCK, FLAT))
    cfg.train_cfg.max_epochs = 2
    return cfg


def test_other_tools_are_told_what_they_need(an_epoch):
    with pytest.raises(ValueError, match=r'other groups \(\d+\) .* \(3\).*ResumeGroupsHook.*hooks'):
        run(an_epoch, 'rest', (GROUPED, FLAT), make=Runner.from_cfg, resume='whole/epoch_1.pth')


def test_another_model_is_refused(an_epoch):
    an_epoch.model.backbone.arch.depths = (2, 0, 0, 0)
    with pytest.raises(UserError, match='parameters without names, and this run'):
        run(an_epoch, 'rest', (GROUPED, FLAT), resume='whole/epoch_1.pth')


def test_weights_alone_need_no_groups(an_epoch):
    an_epoch.load_from = str(an_epoch.filename).replace('tiny.py', 'whole/epoch_1.pth')
    assert run(an_epoch, 'rest', (GROUPED, FLAT)).iter == 4


def adamw(model, constructor=GROUPED, paramwise=None):
    optimizer = dict(type='AdamW', lr=1.0, weight_decay=0.1)
    cfg = dict(constructor=f'mmv2m.{constructor}', optimizer=optimizer, paramwise_cfg=paramwise)
    if constructor == STOCK:
        cfg['constructor'] = STOCK
    wrapper = build_optim_wrapper(model, cfg)
    for p in model.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    wrapper.step()
    return wrapper


def net():
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))


def test_settings_that_part_a_group_are_refused():
    model = net()
    saved = adamw(model, STOCK, dict(flat_decay_mult=0.0)).state_dict()
    wrapper = adamw(model, paramwise=dict(norm_decay_mult=0.0))
    with pytest.raises(UserError, match='weight_decay=0.1 for 0.weight and 0.0 for 0.bias, which'):
        regroup_checkpoint(dict(optimizer=saved), wrapper, model)


def test_groups_without_names_are_refused():
    model = net()
    saved = adamw(model, STOCK, dict(flat_decay_mult=0.0)).state_dict()
    first, second, *others = saved['param_groups']
    first['params'] += second['params']
    saved['param_groups'] = [first, *others]
    with pytest.raises(UserError, match='6 parameters without names in 5 groups'):
        regroup_checkpoint(dict(optimizer=saved), adamw(model), model)


def test_parameters_that_were_not_trained_are_refused():
    small, model = nn.Sequential(net()[0]), net()
    saved = adamw(small).state_dict()
    with pytest.raises(UserError, match='lacks 4 of the parameters .* such as 1.bias'):
        regroup_checkpoint(dict(optimizer=saved), adamw(model), model)


def test_frozen_parameters_of_a_single_group_are_left_out():
    model = net()
    model[0].requires_grad_(False)
    saved = adamw(model, STOCK)
    checkpoint = dict(optimizer=saved.state_dict())
    wrapper = adamw(model, paramwise=dict(flat_decay_mult=0.0))
    wrapper.optimizer.state.clear()
    regroup_checkpoint(checkpoint, wrapper, model)
    wrapper.load_state_dict(checkpoint['optimizer'])
    assert wrapper.optimizer.state.keys() == saved.optimizer.state.keys()
    for parameter, moments in saved.optimizer.state.items():
        torch.testing.assert_close(wrapper.optimizer.state[parameter], moments, rtol=0, atol=0)


def test_how_a_step_is_computed_is_not_resumed():
    model = net()
    saved = adamw(model).state_dict()
    saved['param_groups'][0].update(fused=True, foreach=False, lr=0.5)
    wrapper = adamw(model)
    wrapper.load_state_dict(saved)
    (group,) = wrapper.optimizer.param_groups
    assert (group['fused'], group['foreach'], group['lr']) == (None, None, 0.5)


def test_several_optimizers_of_a_plain_loop_do_not_mix():
    model = net()
    saved = adamw(model, paramwise=dict(flat_decay_mult=0.0)).state_dict()
    wrapper = adamw(model, paramwise=dict(norm_decay_mult=0.0))
    with pytest.raises(ValueError, match='in other groups'):
        wrapper.load_state_dict(saved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'AmpOptimWrapper'])
def test_fused_steps_go_on_from_steps_that_were_not(wrapper):
    torch.manual_seed(0)
    models = [net().cuda()]
    models.append(deepcopy(models[0]))

    def build(model, constructor):
        optimizer = dict(type='AdamW', lr=0.1, weight_decay=0.1)
        paramwise = dict(flat_decay_mult=0.0)
        return build_optim_wrapper(
            model,
            dict(
                type=wrapper,
                constructor=constructor,
                optimizer=optimizer,
                paramwise_cfg=paramwise,
                clip_grad=dict(max_norm=0.5),
            ),
        )

    def step(model, optim_wrapper, seed):
        torch.manual_seed(seed)
        with optim_wrapper.optim_context(model):
            loss = model(torch.randn(4, 2, device='cuda')).square().sum()
        optim_wrapper.update_params(loss)

    plain, fused = (build(models[0], STOCK), build(models[1], f'mmv2m.{GROUPED}'))
    for seed in range(3):
        step(models[0], plain, seed)
    models[1].load_state_dict(models[0].state_dict())
    # Loaded as they are, moments would be shared by both optimizers.
    checkpoint = dict(optimizer=deepcopy(plain.state_dict()))
    regroup_checkpoint(checkpoint, fused, models[1])
    fused.load_state_dict(checkpoint['optimizer'])
    assert all(group['fused'] for group in fused.optimizer.param_groups)
    for seed in range(3, 6):
        step(models[0], plain, seed), step(models[1], fused, seed)
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    # What fused steps have saved is loaded again.
    state = fused.state_dict()
    fused = build(models[1], f'mmv2m.{GROUPED}')
    fused.load_state_dict(state)
    step(models[1], fused, 6)
    assert all(p.isfinite().all() for p in models[1].parameters())


@pytest.fixture
def resumed(cfg, tmp_path):
    """Train two epochs, and go on with a changed config; returns the log."""

    def run(**changes):
        first = deepcopy(cfg)
        first.param_scheduler = cfg.param_scheduler[:2]
        first.update(work_dir=str(tmp_path / 'run'), train_cfg=dict(by_epoch=True, max_epochs=2))
        build_runner(deepcopy(first)).train()
        forget_runners()
        first.update(resume=True, load_from=str(tmp_path / 'run/epoch_2.pth'))
        first.train_cfg.max_epochs = 3
        first.update(changes)
        runner = build_runner(first)
        runner.train()
        return sorted((tmp_path / 'run').glob('*/*.log'))[-1].read_text()

    return run


TOLD = "A resumed training keeps its checkpoint's settings"


def test_a_resume_says_what_it_does_not_take_from_the_config(resumed, cfg):
    schedule = [cfg.param_scheduler[0], dict(cfg.param_scheduler[1], end=9)]
    log = resumed(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5)), param_scheduler=schedule)
    assert f'{TOLD}, whatever the config says: lr is 0.01, not 0.5; param_scheduler[1].' in log
    assert 'param_scheduler[1].end is 4, not 9' in log


def test_a_resume_of_the_same_settings_says_nothing(resumed):
    assert TOLD not in resumed()


def test_other_optimizers_and_schedules_are_not_resumed(resumed):
    with pytest.raises(UserError, match="the checkpoint's optimizer has no betas"):
        resumed(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.5)))
    forget_runners()
    with pytest.raises(UserError, match='the checkpoint has 2 schedules and param_scheduler has 1'):
        resumed(param_scheduler=[dict(type='ConstantLR', factor=0.5)])
