"""A model as an ONNX file, checked in onnxruntime."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ['INSTALL', 'Exported', 'export_onnx', 'missing_packages']

PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
INSTALL = f'pip install {" ".join(PACKAGES)}'

BATCHES = (1, 2, 5)
"""Batch sizes at which an exported model is compared with the original one."""

TOLERANCE = 1e-4
"""Largest difference between the two models' outputs.

It is absolute for outputs up to 1, and relative to the largest output above that.
"""


class Exported(NamedTuple):
    """A file that :func:`export_onnx` has written.

    Attributes:
        path: The file.
        inputs: Name and shape of each input.
        outputs: Name and shape of each output.
        nodes: Number of nodes of the graph, without the nodes inside a Scan.
        difference: Largest difference from PyTorch's outputs at :data:`BATCHES`, measured as for
            :data:`TOLERANCE`.
    """

    path: Path
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    nodes: int
    difference: float


def missing_packages() -> list[str]:
    """The packages that an export needs, and that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def export_onnx(
    module: nn.Module, image_size: tuple[int, int], path: Path, metadata: dict[str, str]
) -> Exported:
    """Export a module, compare it with itself in onnxruntime, and write the file.

    The exported model takes batches of any size, and images of one size. Nothing is written if the
    comparison fails.

    Args:
        module: A module that takes normalised images, (B, 3, H, W), and returns a tensor or a tuple
            of tensors.
        image_size: H and W in pixels.
        path: The file to write.
        metadata: Keys and values that describe the model in the file.

    Raises:
        RuntimeError: If outputs of the exported model differ from the module's.
    """
    from mmv2m.ops.onnx import translations

    module.eval()
    images = torch.randn(max(BATCHES), 3, *image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = _as_tuple(module(images))
    names = getattr(module, 'outputs', [f'feature_{i}' for i in range(len(outputs))])
    program: Any = torch.onnx.export(
        module,
        (images[:2],),  # with one image, PyTorch would fix the size of the batch to one
        dynamo=True,
        verbose=False,
        input_names=['images'],
        output_names=list(names),
        dynamic_shapes=({0: torch.export.Dim('batch')},),
        custom_translation_table=translations(),
    )
    _forget_source_lines(program.model)
    program.model.metadata_props.update(metadata)
    proto = program.model_proto
    difference = _compare(proto.SerializeToString(), module, images)
    if not difference <= TOLERANCE:
        raise RuntimeError(
            f'the outputs of the exported model differ by {difference:.1e} from those of the '
            f'model, which is more than {TOLERANCE:.0e}; no file was written'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path))
    graph = proto.graph
    shapes = (_shapes_of(graph.input), _shapes_of(graph.output))
    return Exported(path, shapes[0], shapes[1], len(graph.node), difference)


def _forget_source_lines(model: Any) -> None:
    """Remove the notes on each node's origin in Python.

    They have paths of this machine, and are most of a small model's file.
    """
    from onnx_ir.traversal import RecursiveGraphIterator

    for node in RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()


def _compare(program: bytes, module: nn.Module, images: Tensor) -> float:
    """The largest difference between a program's and a module's outputs, or NaN if one is NaN."""
    import onnxruntime

    session = onnxruntime.InferenceSession(program, providers=['CPUExecutionProvider'])
    worst = torch.zeros(())
    for batch in BATCHES:
        with torch.no_grad():
            expected = _as_tuple(module(images[:batch]))
        results = session.run(None, {'images': images[:batch].numpy()})
        for y, result in zip(expected, results, strict=True):
            difference = (y - torch.from_numpy(result)).abs().max() / y.abs().max().clamp(min=1)
            worst = torch.maximum(worst, difference)
    return worst.item()


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _shapes_of(values: Any) -> dict[str, list[int | str]]:
    """The sizes of ONNX values by name. Open sizes are given by their names."""
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in values
    }
