import argparse
import contextlib
import os
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmv2m.utils.tensors_only import load_tensors, read_pickle


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


def files_that_would_run(folder, trace):
    """A pickle that names a command, in every format that ``torch.load`` reads."""
    evil = Runs(f'touch {trace}')
    torch.save(dict(model=dict(weight=torch.ones(2)), more=evil), folder / 'zip.pth')
    torch.save(dict(more=evil), folder / 'old.pth', _use_new_zipfile_serialization=False)
    (folder / 'bare.pth').write_bytes(pickle.dumps(evil))
    # A name with dots leads from an allowed function to its module's builtins.
    place = b'torch._utils', b'_rebuild_tensor.__builtins__.get'
    names = b''.join(b'\x8c' + bytes([len(name)]) + name for name in place)
    call = b'\x8c\x04eval\x85R'
    code = f"__import__('os').system('touch {trace}')".encode()
    code = b'X' + len(code).to_bytes(4, 'little') + code + b'\x85R'
    (folder / 'dots.pth').write_bytes(b'\x80\x04' + names + b'\x93' + call + code + b'.')
    return sorted(folder.glob('*.pth'))


def test_no_code_runs_from_any_format(tmp_path):
    trace = tmp_path / 'trace'
    for file in files_that_would_run(tmp_path, trace):
        with contextlib.suppress(ValueError):
            _, skipped = read_pickle(str(file))
            assert skipped == ['posix.system']
        assert not trace.exists(), file.name
    # The files are what they are meant to be: Python's own pickle runs them.
    for name in ('bare', 'dots'):
        pickle.loads((tmp_path / f'{name}.pth').read_bytes())
        assert trace.exists()
        trace.unlink()


def test_a_program_is_no_checkpoint(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / 'program.pth')
    with pytest.raises(ValueError, match='a TorchScript program'):
        load_tensors(str(tmp_path / 'program.pth'))


def test_what_else_a_file_may_be(tmp_path):
    torch.save(dict(model=torch.ones(999)), tmp_path / 'whole')
    whole = (tmp_path / 'whole').read_bytes()
    for content, words in (
        (b'', 'the file is empty'),
        (
            b'version https://git-lfs.github.com/spec/v1\noid sha256:46\nsize 12\n',
            'Git LFS pointer',
        ),
        (b'\n<!DOCTYPE html><html>', 'an HTML page'),
        (whole[:-100], 'truncated, at'),
        (pickle.dumps(dict(a=1))[:-3], 'damaged or truncated'),
    ):
        (tmp_path / 'file').write_bytes(content)
        with pytest.raises(ValueError, match=f'^not a checkpoint: .*{words}'):
            load_tensors(str(tmp_path / 'file'))


def test_what_mmengine_saves_and_what_a_user_trusts(tmp_path):
    curve = HistoryBuffer([1.0, 2.0], [1, 1])
    held = dict(log=curve, seen=np.arange(3), last=np.float32(2), rgb=np.array(['a']))
    torch.save(held, tmp_path / 'own.pth')
    loaded, skipped = read_pickle(str(tmp_path / 'own.pth'))
    assert skipped == []
    assert loaded['log'].mean() == 1.5 and loaded['log'].statistics('max') == 2
    assert (loaded['seen'] == held['seen']).all() and loaded['last'] == 2

    torch.save(dict(args=argparse.Namespace(lr=1)), tmp_path / 'args.pth')
    assert read_pickle(str(tmp_path / 'args.pth'))[1] == ['argparse.Namespace']
    with torch.serialization.safe_globals([argparse.Namespace]):
        loaded, skipped = read_pickle(str(tmp_path / 'args.pth'))
    assert skipped == [] and loaded['args'].lr == 1


class Gets:
    """Asks for an attribute where it is unpickled, as the pickle of a HistoryBuffer does."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return getattr, (HistoryBuffer, self.name)


def test_no_attributes_but_the_statistics(tmp_path):
    for name, allowed in (('mean', True), ('__init__', False), ('register_statistics', False)):
        torch.save(dict(x=Gets(name)), tmp_path / 'file.pth')
        _, skipped = read_pickle(str(tmp_path / 'file.pth'))
        assert skipped == ([] if allowed else [f'builtins.getattr of {name!r}'])


def test_parameters_with_attributes_of_their_own(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter._no_weight_decay = True
    torch.save(dict(a=parameter, b=parameter.detach().as_subclass(torch.Tensor)), tmp_path / 'p')
    loaded, skipped = read_pickle(str(tmp_path / 'p'))
    assert skipped == [] and torch.equal(loaded['a'], parameter)
