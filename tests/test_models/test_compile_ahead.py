"""Kernels of all stages are compiled before the first stage runs, and nobody notices the calls."""

import logging
from types import SimpleNamespace

import pytest
import torch
from tiny_backbones import KINDS, make, make_image
from torch import nn

from mmv2m.models import V2M, VMamba
from mmv2m.models.backbones import staged
from mmv2m.models.layers.compile_ahead import compile_ahead
from mmv2m.models.layers.stage import Stage
from mmv2m.ops.backends import BACKENDS
from mmv2m.ops.gpu.operators import COUPLED, OPERATORS, Operators
from mmv2m.ops.runtime import hardware
from mmv2m.ops.runtime.hardware import Hardware
from mmv2m.ops.runtime.rehearsal import rehearse
from mmv2m.ops.runtime.watch import rehearsing


@pytest.fixture
def runs(monkeypatch):
    """Blocks that stages run."""
    found = []
    advance = Stage.advance

    def noting(stage, stream, *args, blocks):
        found.append(list(blocks))
        return advance(stage, stream, *args, blocks=found[-1])

    monkeypatch.setattr(Stage, 'advance', noting)
    return found


def compile_all(model):
    device = torch.device('cpu')
    compile_ahead(model.stages, model.widths, device, torch.float32, model.stage_arguments())


@pytest.mark.parametrize('name', KINDS)
def test_the_first_blocks_of_every_stage(name, runs, caplog):
    model = make(name, torch.float32)
    with caplog.at_level(logging.DEBUG, 'mmv2m'):
        compile_all(model)
    assert 'not compiled ahead' not in caplog.text
    expected = [
        list(stage)[: 2 + (not Stage.takes_stream(stage[0]))]
        for stage in model.stages
        if not any(isinstance(module, nn.BatchNorm2d) for module in stage.modules())
    ]
    assert runs == expected
    assert len(expected) == len(model.stages) or name in ('efficient', 'plain_mamba')


class Replaced(nn.Linear):
    pass


def hook(*args):
    pytest.fail('a hook hears of the call')


@pytest.mark.parametrize('where', ['stage', 'block', 'norm'])
def test_what_is_watched_is_not_called(where, runs):
    model = make('pyramid', torch.float32)
    stage = model.stages[1]
    dict(stage=stage, block=stage[-1], norm=stage[-1].norm)[where].register_forward_hook(hook)
    compile_all(model)
    assert runs == [list(model.stages[0])]


def test_a_users_own_module_is_not_called(runs):
    model = make('pyramid', torch.float32)
    block = model.stages[0][0]
    block.mixer.in_proj = Replaced(8, 8)
    compile_all(model)
    assert runs == [list(model.stages[1])]


def test_random_numbers_and_gradients_are_left_as_they_are():
    cls, settings = KINDS['pyramid']
    model = cls(**settings, drop_path_rate=0.5).train()
    state = torch.get_rng_state()
    compile_all(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_failure_costs_nothing(monkeypatch, caplog):
    model = make('pyramid', torch.float32)
    monkeypatch.setattr(Stage, 'advance', None)
    with caplog.at_level(logging.DEBUG, 'mmv2m'):
        compile_all(model)
    assert 'not compiled ahead' in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_once_for_every_kind_of_map(monkeypatch):
    calls = []
    monkeypatch.setattr(staged, 'compile_ahead', lambda *args: calls.append(args))
    cls, settings = KINDS['pyramid']
    model = cls(**settings).cuda()
    image = make_image('pyramid', torch.float32).cuda()
    for _ in range(2):
        model(image)
    assert len(calls) == 1
    with torch.no_grad():
        model(image)
    model.eval()(image)
    assert len(calls) == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_computes_the_same(monkeypatch):
    """The first pass of one model compiles ahead, and another one's does not."""
    cls, settings = KINDS['pyramid']
    torch.manual_seed(0)
    model = cls(**settings).cuda()
    image = make_image('pyramid', torch.float32).cuda()
    (ahead,) = model(image)
    monkeypatch.setattr(staged, 'compile_ahead', lambda *args: None)
    for _ in range(3):
        torch.testing.assert_close(model(image)[0], ahead, rtol=0, atol=0)


@pytest.fixture
def kernels(monkeypatch):
    """What is compiled for operators that run on a GPU; all of them are only rehearsed."""
    pytest.importorskip('triton')
    from model_launches import KERNELS

    found = set()

    def hear(call):
        found.add(call.key())

    def prepare(function, gradients=None):
        def run(*args):
            rehearse(function, gradients, args, torch.device('cpu'), hear)
            with rehearsing(hear):
                return function(*args)

        return run

    operators = Operators(KERNELS, prepare)
    functions = {name: getattr(operators, name) for name in (*OPERATORS, *COUPLED)}
    backend = SimpleNamespace(DEVICES=None, refusal=lambda x: None, **functions)
    monkeypatch.setitem(BACKENDS, 'cuda', backend)
    monkeypatch.setattr(hardware, 'EMULATED', Hardware(132, 228 * 1024, 227 * 1024))
    return found


@pytest.mark.parametrize(
    ('cls', 'arch'),
    [(V2M, 'tiny'), (V2M, 'pyramid-small'), (V2M, 'pyramid-base'), (VMamba, 'tiny')],
)
def test_a_training_step_compiles_few_kernels(cls, arch, kernels):
    """On an H100, in autocast: those of all its layers, for maps of any size."""
    model = cls(arch=arch, drop_path_rate=0.2).train()
    with torch.autocast('cpu', torch.bfloat16):
        *_, y = model(torch.rand(1, 3, 224, 224))
    y.float().sum().backward()
    assert 10 < len(kernels) <= 40
