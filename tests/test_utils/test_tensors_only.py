import argparse
import os
import sys
from types import ModuleType

import pytest
import torch

from mmv2m.utils.tensors_only import load_tensors


class Runs:
    """Would run a command where it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_what_a_training_script_saves(tmp_path, monkeypatch):
    # A config class as yacs has it, which is not installed where the checkpoint is read.
    module = ModuleType('absent')
    module.CfgNode = type('CfgNode', (dict,), dict(__module__='absent'))
    monkeypatch.setitem(sys.modules, 'absent', module)
    config = module.CfgNode(MODEL=module.CfgNode(DEPTHS=[2, 2]))
    config.__dict__['immutable'] = True
    layer = torch.nn.Conv2d(2, 3, 1)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2, 1, 1)).sum().backward()
    optimizer.step()
    torch.save(
        dict(
            model=layer.state_dict(),
            half=layer.weight.detach().bfloat16(),
            parameter=layer.weight,
            optimizer=optimizer.state_dict(),
            config=config,
            args=argparse.Namespace(lr=1e-3),
            epoch=3,
        ),
        tmp_path / 'checkpoint.pth',
    )
    monkeypatch.delitem(sys.modules, 'absent')

    loaded = load_tensors(str(tmp_path / 'checkpoint.pth'))
    assert loaded['epoch'] == 3
    assert torch.equal(loaded['model']['weight'], layer.weight)
    assert torch.equal(loaded['parameter'], layer.weight)
    assert loaded['half'].dtype == torch.bfloat16


def test_no_code_runs(tmp_path):
    trace, path = tmp_path / 'trace', tmp_path / 'checkpoint.pth'
    torch.save(dict(model=dict(weight=torch.ones(2)), more=Runs(f'touch {trace}')), path)
    assert torch.equal(load_tensors(str(path))['model']['weight'], torch.ones(2))
    assert not trace.exists()


def test_no_checkpoint(tmp_path):
    (tmp_path / 'text').write_text('hello')
    (tmp_path / 'empty').touch()
    (tmp_path / 'integer').write_text('Igarbage\n')
    (tmp_path / 'memo').write_text('garbage\n')
    for name in ('text', 'empty', 'integer', 'memo'):
        with pytest.raises(ValueError, match='not a checkpoint'):
            load_tensors(str(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        load_tensors(str(tmp_path / 'none'))
    torch.save(torch.ones(2), tmp_path / 'tensor')
    with pytest.raises(ValueError, match='is a dict, but this file holds a Tensor'):
        load_tensors(str(tmp_path / 'tensor'))
