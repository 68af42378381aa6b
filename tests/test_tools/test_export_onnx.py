"""The command that makes an ONNX file of a checkpoint."""

import importlib.util
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from tiny_digits import TINY_DIGITS

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


def script_of_the_docs():
    """The program that docs/deployment.md has for a service without PyTorch."""
    page = (ROOT / 'docs/deployment.md').read_text()
    (code,) = re.findall(r'```python\n(# classify\.py.*?)```', page, re.DOTALL)
    return code


@needs_packages
def test_a_classifier(tool, model, capsys, monkeypatch):
    import onnxruntime

    tool.main(['config.py', 'weights.pth'])
    said = capsys.readouterr().out
    assert 'images (batch, 3, 8, 8)' in said and 'logits (batch, 10)' in said
    session = onnxruntime.InferenceSession('weights.onnx', providers=['CPUExecutionProvider'])
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found['mean']) == [78.0] * 3 and json.loads(found['std']) == [96.0] * 3
    assert json.loads(found['classes']) == list('0123456789') and found['channels'] == 'BGR'

    pixels = np.random.default_rng(0).integers(0, 255, (8, 8)).astype(np.uint8)
    Image.fromarray(pixels).save('digit.png')
    Path('classify.py').write_text(script_of_the_docs())
    monkeypatch.setattr('sys.argv', ['classify.py', 'weights.onnx', 'digit.png'])
    runpy.run_path('classify.py', run_name='__main__')
    batch = torch.from_numpy(pixels).float().sub(78).div(96).expand(1, 3, 8, 8)
    with torch.no_grad():
        probabilities = model(batch, mode='tensor').softmax(1)[0]
    best = int(probabilities.argmax())
    assert capsys.readouterr().out.split() == [str(best), f'{100 * probabilities[best]:.1f}%']
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
def test_a_backbone(tool, model, capsys):
    tool.main(
        [
            'config.py',
            'weights.pth',
            '--part',
            'backbone',
            '--out',
            'out/b.onnx',
            '--shape',
            '16',
            '8',
        ]
    )
    said = capsys.readouterr().out
    assert 'images (batch, 3, 16, 8)' in said and 'feature_0 (batch, 16)' in said
    assert Path('out/b.onnx').is_file()


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
    ],
)
def test_mistakes_are_one_line(tool, model, arguments, words, capsys):
    with pytest.raises(SystemExit):
        tool.main(['config.py', *arguments])
    assert words in capsys.readouterr().err.splitlines()[-1]
