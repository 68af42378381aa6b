"""Checkpoints of every schedule of mmengine can be read."""

import pytest
import torch
from mmengine.optim.scheduler import lr_scheduler
from torch.optim import SGD

from mmv2m.utils.tensors_only import read_pickle

SETTINGS = {
    'MultiStepLR': dict(milestones=[1, 1, 2]),
    'StepLR': dict(step_size=2),
    'CosineRestartLR': dict(periods=[2, 3], restart_weights=[1, 0.5], eta_min=0.0),
    'OneCycleLR': dict(eta_max=0.1, total_steps=4),
    'ExponentialLR': dict(gamma=0.9),
    'CosineAnnealingLR': dict(T_max=3),
    'ConstantLR': {},
    'LinearLR': {},
    'PolyLR': {},
    'ReduceOnPlateauLR': dict(monitor='accuracy/top1', rule='greater'),
}


@pytest.mark.parametrize('name', SETTINGS)
def test_schedules(name, tmp_path):
    optimizer = SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    scheduler = getattr(lr_scheduler, name)(optimizer, **SETTINGS[name])
    torch.save(dict(param_schedulers=[scheduler.state_dict()]), tmp_path / 'saved.pth')
    content, skipped = read_pickle(str(tmp_path / 'saved.pth'))
    assert not skipped
    assert content['param_schedulers'] == [scheduler.state_dict()]
