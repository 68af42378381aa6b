"""Modules through torch.onnx.export and onnxruntime; tests that import this need the packages."""

import numpy as np
import pytest
import torch

for package in ('onnx', 'onnxscript', 'onnxruntime'):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install mmv2m[onnx]')

import onnxruntime  # noqa: E402

from mmv2m.ops.onnx import translations  # noqa: E402


def export(module, x, *others):
    """A module as ONNX; all of its inputs have images along their first axis, of any number."""
    open_batch = {0: torch.export.Dim('batch')}
    return torch.onnx.export(
        module.eval(),
        (x, others),
        dynamo=True,
        verbose=False,
        dynamic_shapes=(open_batch, tuple(open_batch for _ in others)),
        custom_translation_table=translations(),
    )


def another_batch(maps):
    """Three times as many images."""
    return [torch.cat((m, m.flip(0), m)) for m in maps]


def run_program(program, maps):
    """What onnxruntime computes."""
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=['CPUExecutionProvider']
    )
    names = [one.name for one in session.get_inputs()]
    return session.run(None, {n: m.numpy() for n, m in zip(names, maps, strict=True)})


def run(module, x, *others):
    """What PyTorch and what onnxruntime compute, with another batch than the exported one."""
    program = export(module, x, *others)
    maps = another_batch((x, *others))
    return module(maps[0], maps[1:]), run_program(program, maps), program


def assert_equal(expected, results, tolerance=1e-6):
    assert len(expected) == len(results)
    for y, result in zip(expected, results, strict=True):
        assert result.dtype == y.numpy().dtype and result.shape == tuple(y.shape)
        np.testing.assert_allclose(result, y.numpy(), rtol=tolerance, atol=tolerance)
