"""The command that makes an ONNX file of a checkpoint."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_data import tiny_mask_rcnn
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from tiny_digits import TINY_DIGITS

from mmv2m.deployment import build_model, describe, loaded_channels

ROOT = Path(__file__).resolve().parents[2]
needs_packages = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ('onnx', 'onnxscript', 'onnxruntime'))),
    reason='exporting to ONNX needs: pip install mmv2m[onnx]',
)


@pytest.fixture
def tool(monkeypatch):
    path = ROOT / 'tools/deployment/export_onnx.py'
    spec = importlib.util.spec_from_file_location('export_onnx', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A tiny classifier, whose config and weights lie in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path('config.py').write_text(TINY_DIGITS)
    cfg = Config.fromfile('config.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).eval()
    meta = dict(dataset_meta=dict(classes=tuple('0123456789')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), 'weights.pth')
    return model


IMPORTABLE = ('onnxruntime', 'flatbuffers', 'google', 'packaging', 'numpy', 'PIL')
"""What `pip install onnxruntime numpy pillow` brings."""

WITHOUT_OTHER_PACKAGES = f"""
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] not in {{*sys.stdlib_module_names, *{IMPORTABLE!r}}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def classify(*arguments):
    """What the command says that classifies without PyTorch and OpenMMLab."""
    script = ROOT / 'tools/deployment/classify_onnx.py'
    command = [sys.executable, '-c', WITHOUT_OTHER_PACKAGES, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@needs_packages
def test_a_classifier(tool, model, capsys):
    import onnxruntime

    tool.main(['config.py', 'weights.pth'])
    said = capsys.readouterr().out
    assert 'images (batch, 3, 8, 8)' in said and 'logits (batch, 10)' in said
    session = onnxruntime.InferenceSession('weights.onnx', providers=['CPUExecutionProvider'])
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found['mean']) == [78.0] * 3 and json.loads(found['std']) == [96.0] * 3
    assert json.loads(found['classes']) == list('0123456789') and found['channels'] == 'RGB'

    pixels = np.random.default_rng(0).integers(0, 255, (8, 8)).astype(np.uint8)
    Image.fromarray(pixels).save('digit.png')
    batch = torch.from_numpy(pixels).float().sub(78).div(96).expand(1, 3, 8, 8)
    with torch.no_grad():
        probabilities = model(batch, mode='tensor').softmax(1)[0]
    line = f'digit.png: {probabilities.argmax()}, {probabilities.max():.1%}\n'
    assert classify('weights.onnx', 'digit.png', 'digit.png').stdout == 2 * line
    assert classify('weights.onnx', 'config.py').stderr.count('\n') == 1
    error = classify('weights.pth', 'digit.png').stderr
    assert error.startswith('weights.pth cannot be read: ') and error.count('\n') == 1
    check_bad_inputs(session, onnxruntime)


def check_bad_inputs(session, onnxruntime):
    """What a service may be sent: an error that says what is wrong, or NaN for that image only."""
    errors = onnxruntime.capi.onnxruntime_pybind11_state
    with pytest.raises(errors.InvalidArgument, match='(?s)index: 2 Got: 16 Expected: 8'):
        session.run(None, dict(images=np.zeros((1, 3, 16, 8), np.float32)))
    with pytest.raises(errors.InvalidArgument, match='double'):
        session.run(None, dict(images=np.zeros((1, 3, 8, 8))))
    (logits,) = session.run(None, dict(images=np.zeros((0, 3, 8, 8), np.float32)))
    assert logits.shape == (0, 10)
    images = np.zeros((2, 3, 8, 8), np.float32)
    images[1, 0, 3, 3] = np.nan
    (logits,) = session.run(None, dict(images=images))
    assert np.isfinite(logits[0]).all() and np.isnan(logits[1]).all()


@needs_packages
def test_the_exact_recurrence(tool, model, capsys):
    import onnxruntime

    cfg = Config.fromfile('config.py')
    cfg.model.backbone.recurrence = 'coupled'
    cfg.dump('coupled.py')
    torch.save(dict(state_dict=build_model(cfg)[0].state_dict()), 'coupled.pth')
    tool.main(['coupled.py', 'coupled.pth'])
    assert 'checked in onnxruntime' in capsys.readouterr().out
    session = onnxruntime.InferenceSession('coupled.onnx', providers=['CPUExecutionProvider'])
    check_bad_inputs(session, onnxruntime)


@needs_packages
def test_a_detector_s_backbone_and_neck(tool, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tiny_mask_rcnn()
    cfg = Config.fromfile(path)
    cfg.model.backbone.arch.depths = (1, 0, 0, 0)
    cfg.dump(path)
    torch.save(dict(state_dict=build_model(cfg)[0].state_dict()), 'weights.pth')
    arguments = 'tiny_nuclei.py weights.pth --out out/b.onnx --shape 64 96'
    tool.main([*arguments.split(), '--part', 'backbone'])
    said = capsys.readouterr().out
    assert 'images (batch, 3, 64, 96)' in said
    for i, side in enumerate((16, 8, 4, 2, 1)):
        assert f'feature_{i} (batch, 16, {side}, {-(-side * 3 // 2)})' in said
    assert 'out/b.onnx is no classifier' in classify('out/b.onnx', 'digit.png').stderr
    with pytest.raises(SystemExit):
        tool.main(arguments.split())
    assert 'give --part backbone' in capsys.readouterr().err


def test_how_images_are_prepared(model):
    """The preprocessor may stand beside the model; files are loaded as BGR."""
    cfg = Config.fromfile('config.py')
    assert loaded_channels(cfg) == 'RGB'
    cfg.test_dataloader.dataset = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))
    assert loaded_channels(cfg) == 'BGR'
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.data_preprocessor.to_rgb = True
    found = describe(build_model(cfg, 'weights.pth')[0], 'BGR')
    assert found['channels'] == 'RGB' and json.loads(found['mean']) == [78.0] * 3


def test_without_the_packages(tool, model, capsys, monkeypatch):
    monkeypatch.setattr(tool, 'missing_packages', lambda: ['onnxscript'])
    with pytest.raises(SystemExit):
        tool.main(['config.py', 'weights.pth'])
    (line,) = capsys.readouterr().err.splitlines()
    assert 'onnxscript' in line and 'pip install onnx onnxscript onnxruntime' in line


@needs_packages
@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['none.pth'], 'none.pth does not exist'),
        (['weights.pth', '--shape', '0'], '--shape must be positive'),
        (['weights.pth', '--out', '.'], '--out .: the model goes to a file with the suffix .onnx'),
        (['weights.pth', '--out', 'config.py/m.onnx'], 'config.py'),
        (['others.pth'], 'missing keys in source state_dict: head.fc.bias'),
    ],
)
def test_mistakes_are_one_line(tool, model, arguments, words, capsys):
    weights = {k: w for k, w in model.state_dict().items() if k != 'head.fc.bias'}
    torch.save(dict(state_dict=weights), 'others.pth')
    with pytest.raises(SystemExit):
        tool.main(['config.py', *arguments])
    assert words in capsys.readouterr().err.splitlines()[-1]
