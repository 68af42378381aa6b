"""Every kind of backbone through torch.export and, as ONNX, through onnxruntime."""

import importlib.util
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_data import tiny_mask_rcnn, tiny_upernet
from mmengine.config import Config
from tiny_backbones import IMAGE_SIDES, KINDS, make
from torch.export import Dim

from mmv2m.deployment import build_model, part_of
from mmv2m.ops.backends import can_run

ROOT = Path(__file__).resolve().parents[2]
EXPORTED = ('plain', 'pyramid', 'local', 'coupled')
EXPORTED += ('vim', 'local_vim', 'vmamba', 'plain_mamba', 'efficient')
HAS_ONNX = all(map(importlib.util.find_spec, ('onnx', 'onnxscript', 'onnxruntime')))

IN_A_FRESH_PROCESS = """
import sys, torch, mmv2m.ops
images = torch.load('images.pt')
torch.save({name: torch.export.load(f'{name}.pt2').module()(images)[0] for name in sys.argv[1:]},
           'outputs.pt')
assert not {'mmengine', 'mmcv', 'mmpretrain'} & set(sys.modules)
"""


def images(kind, batch, side=None):
    side = side or IMAGE_SIDES.get(kind, 16)
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(batch))


def export(kind, backend='reference'):
    """A small backbone, and the same as a program of any batch size."""
    model = make(kind, torch.float32)
    use_backend(model, backend)
    with torch.no_grad():
        shapes = ({0: Dim('batch')},)
        return model, torch.export.export(model, (images(kind, 2),), dynamic_shapes=shapes)


def use_backend(model, backend):
    """A program keeps the backend that it was made with."""
    for module in model.modules():
        if hasattr(module, 'backend'):
            module.backend = backend


@pytest.fixture(scope='module')
def plain():
    return export('plain')


@pytest.mark.parametrize('kind', EXPORTED)
def test_any_batch(kind, plain):
    assert kind in KINDS
    model, program = plain if kind == 'plain' else export(kind)
    run, session = program.module(), open_session(program) if HAS_ONNX else None
    for batch in (1, 3, 0):
        x = images(kind, batch)
        with torch.no_grad():
            expected = model(x)
        for y, result in zip(expected, run(x), strict=True):
            assert torch.equal(y, result)
        if session is None:
            continue
        for y, result in zip(expected, session.run(None, {'x': x.numpy()}), strict=True):
            np.testing.assert_allclose(result, y.numpy(), rtol=1e-4, atol=1e-4)
    if session is None:
        pytest.skip('equal as programs; for ONNX too: pip install mmv2m[onnx]')


def open_session(program):
    import onnxruntime

    from mmv2m.ops.onnx import translations

    made = torch.onnx.export(
        program, dynamo=True, verbose=False, custom_translation_table=translations()
    )
    return onnxruntime.InferenceSession(
        made.model_proto.SerializeToString(), providers=['CPUExecutionProvider']
    )


@pytest.mark.parametrize(
    'tiny', [tiny_mask_rcnn, partial(tiny_upernet, 'upernet_v2m-t')], ids=['mask_rcnn', 'upernet']
)
def test_a_dense_model_s_backbone_and_neck(tiny, tmp_path, monkeypatch):
    if tiny is tiny_mask_rcnn:
        pytest.importorskip('mmcv._ext', reason='mmdet needs operators that mmcv-lite has not')
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(tiny())
    cfg.model.backbone.scan_backend = 'reference'
    cfg.model.backbone.arch.depths = (1, 0, 0, 0)
    model = part_of(build_model(cfg)[0], 'backbone').eval()
    with torch.no_grad():
        shapes = ({0: Dim('batch')},)
        program = torch.export.export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=shapes)
        x = torch.randn(3, 3, 64, 96)
        outputs = program.module()(x)
        assert len(outputs) > 3
        for y, result in zip(model(x), outputs, strict=True):
            assert torch.equal(y, result)


def test_a_fresh_process_needs_the_operators_only(plain, tmp_path):
    """Also of kernels that nobody has loaded there yet."""
    model, program = plain
    torch.export.save(program, tmp_path / 'reference.pt2')
    x = images('plain', 4)
    torch.save(x, tmp_path / 'images.pt')
    names = ['reference']
    if can_run('cpu', x):
        torch.export.save(export('plain', 'cpu')[1], tmp_path / 'cpu.pt2')
        names.append('cpu')
    path = f'import sys; sys.path.insert(0, {str(ROOT)!r})'
    command = [sys.executable, '-c', path + IN_A_FRESH_PROCESS, *names]
    subprocess.run(command, cwd=tmp_path, check=True)
    with torch.no_grad():
        (expected,) = model(x)
    for name, result in torch.load(tmp_path / 'outputs.pt').items():
        tolerance = 0 if name == 'reference' else 1e-6
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


def test_bad_input_of_a_program(plain):
    _, program = plain
    run = program.module()
    with pytest.raises((AssertionError, RuntimeError), match='16'):
        run(images('plain', 2, side=24))
    with pytest.raises((AssertionError, RuntimeError, TypeError), match='(?i)dtype|double'):
        run(images('plain', 2).double())
    x = images('plain', 2)
    x[1, 0, 3, 3] = torch.nan
    (y,) = run(x)
    assert y[0].isfinite().all() and y[1].isnan().all()


@pytest.mark.parametrize('kind', ['plain', 'vim'])
def test_a_trace_says_what_does_it(kind):
    """It would keep the size of its example, and be wrong for others without a word."""
    with pytest.raises(RuntimeError, match=r'other sizes: use torch\.export\.export or tools/'):
        torch.jit.trace(make(kind, torch.float32), images(kind, 2))


@pytest.mark.parametrize(
    ('kind', 'backend', 'smallest'),
    [('vim', 'reference', 2), ('coupled', 'reference', 4), ('coupled', 'cpu', 4)],
)
def test_any_height_and_width(kind, backend, smallest):
    """A program whose class token stands in the middle takes four patches a side or more."""
    if not can_run(backend, torch.zeros(1)):
        pytest.skip('there is no C++ compiler')
    model, side = make(kind, torch.float32), 8
    use_backend(model, backend)
    shapes = ({0: Dim('batch'), 2: side * Dim('rows'), 3: side * Dim('columns')},)
    example = torch.randn(2, 3, 5 * side, 6 * side)  # not the size that the model is made for
    with torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=shapes)
        for rows, columns in ((smallest, smallest), (4, 7)):
            x = torch.randn(3, 3, rows * side, columns * side)
            for y, result in zip(model(x), program.module()(x), strict=True):
                torch.testing.assert_close(result, y, rtol=0, atol=1e-6)
