"""Tools that other people use on models: each sees the modules that it asks for."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sharded_training
import torch
from tiny_backbones import make, make_image
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard

TESTS = Path(__file__).parents[1]

CAM_KINDS = ('plain', 'pyramid', 'vmamba', 'vim')


class Classifier(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.backbone = make(kind, torch.float32)
        self.head = nn.Linear(self.backbone.out_channels[-1], 3)

    def forward(self, x):
        return self.head(self.backbone(x)[0])


def as_channels_first(kind, y):
    """What Grad-CAM takes of a channels-last map; Vim's is a sequence with its token inside."""
    if kind == 'vim':
        middle = (y.shape[2] - 1) // 2
        y = torch.cat((y[:, 0, :middle], y[:, 0, middle + 1 :]), 1).unflatten(1, (2, 2))
    return y.permute(0, 3, 1, 2)


@pytest.mark.parametrize('kind', CAM_KINDS)
@pytest.mark.parametrize('place', ['norm', 'block', 'stage'])
def test_grad_cam(kind, place):
    cam = pytest.importorskip('pytorch_grad_cam')
    model, x = Classifier(kind).eval(), make_image(kind, torch.float32)
    # Behind Vim's last block only the class token is read: patches have no gradients there.
    stage = model.backbone.stages[0 if kind == 'vim' else -1]
    layer = dict(norm=stage[-1].norm, block=stage[-1], stage=stage)[place]
    with cam.GradCAM(model, [layer], lambda y: as_channels_first(kind, y)) as explain:
        explain.batch_size = 1
        (heat,) = explain(x, [cam.utils.model_targets.ClassifierOutputTarget(1)])
        (activation,) = explain.activations_and_grads.activations
        (gradient,) = explain.activations_and_grads.gradients
    assert heat.shape == x.shape[2:]
    assert activation.shape[1] == stage[-1].norm.weight.numel()
    assert gradient.shape == activation.shape and gradient.abs().max() > 0
    assert heat.max() <= 1 and heat.min() >= 0


@pytest.mark.parametrize('kind', ['plain', 'pyramid', 'vmamba', 'efficient'])
def test_timms_feature_hooks(kind):
    features = pytest.importorskip('timm.models._features')
    model, x = make(kind), make_image(kind)
    names = [f'stages.{i}' for i in range(len(model.stages))]
    hooks = features.FeatureHooks(names, model.named_modules())
    model(x)
    widths = [8 if kind == 'plain' else 8 * 2**i for i in range(len(model.stages))]
    maps = hooks.get_output(x.device)
    assert [(name, y.dim(), y.shape[-1]) for name, y in maps.items()] == [
        (name, 4, width) for name, width in zip(names, widths, strict=True)
    ]


@pytest.fixture
def one_process(tmp_path):
    store = distributed.FileStore(str(tmp_path / 'store'), 1)
    distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize('kind', ['plain', 'pyramid', 'vim', 'local_vim', 'vmamba'])
def test_fully_sharded_by_block(kind, one_process):
    model, x = make(kind), make_image(kind)
    truth = model(x)[0]
    truth.sum().backward()
    sharded = copy.deepcopy(model)
    sharded.zero_grad()
    mesh = distributed.device_mesh.init_device_mesh('cpu', (1,))
    for stage in sharded.stages:
        for block in stage:
            fully_shard(block, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    y = sharded(x)[0]
    y.sum().backward()
    assert torch.allclose(y, truth)
    for name, parameter in sharded.named_parameters():
        grad = model.get_parameter(name).grad
        assert (grad is None) == (parameter.grad is None), name
        assert grad is None or torch.allclose(parameter.grad.full_tensor(), grad), name


@pytest.fixture(scope='module')
def trained_by_two(tmp_path_factory):
    """The folder with the weights that two sharded processes have trained."""
    folder = tmp_path_factory.mktemp('sharded')
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get('PYTHONPATH', '')])
    command = [sys.executable, TESTS / 'sharded_training.py']
    ranks = [
        subprocess.Popen([*command, str(rank), '2', folder], env={**os.environ, 'PYTHONPATH': path})
        for rank in range(2)
    ]
    assert [rank.wait(300) for rank in ranks] == [0, 0]
    return folder


@pytest.mark.parametrize('kind', sharded_training.KINDS)
def test_two_sharded_processes_train_as_one(kind, trained_by_two):
    model = make(kind)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sharded_training.train(model, sharded_training.make_images(kind, 2))
    found = torch.load(trained_by_two / f'{kind}.pth')
    assert any(not torch.allclose(p, before[name]) for name, p in model.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), msg=name)


@pytest.mark.parametrize('kind', ['plain', 'vim', 'pyramid'])
def test_peft(kind):
    """Adapters on all projections count, are trained, and can be merged into the weights."""
    peft = pytest.importorskip('peft', exc_type=ImportError)
    model, x = make(kind), make_image(kind)
    truth = model(x)[0]
    targets = ['in_proj', 'x_proj', 'dt_proj', 'out_proj']
    config = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
    adapted = peft.get_peft_model(model, config).double()
    y = adapted(x)[0]
    y.sum().backward()
    assert not torch.allclose(y, truth)
    adapters = [p for name, p in adapted.named_parameters() if 'lora_' in name]
    assert adapters and all(p.grad.abs().max() > 0 for p in adapters)
    assert torch.allclose(adapted.merge_and_unload()(x)[0], y)
