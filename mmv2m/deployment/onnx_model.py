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
"""Batch sizes at which an exported model is compared with the one that it was made of."""

TOLERANCE = 1e-4
"""Largest difference between the two, of outputs up to 1; in units of the largest above that."""


class Exported(NamedTuple):
    """What :func:`export_onnx` has made.

    Attributes:
        path: The file.
        inputs: Name and shape of each input.
        outputs: Name and shape of each output.
        nodes: Nodes of the graph, without those inside of a Scan.
        difference: From PyTorch, the largest at :data:`BATCHES`, as :data:`TOLERANCE` counts.
    """

    path: Path
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    nodes: int
    difference: float


def missing_packages() -> list[str]:
    """Those of the packages that exporting needs which are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def export_onnx(
    module: nn.Module, image_size: tuple[int, int], path: Path, metadata: dict[str, str]
) -> Exported:
    """Export a module, compare it with itself in onnxruntime, and write the file.

    The batch may have any size, images have one. Nothing is written if the comparison fails.

    Args:
        module: Takes normalised images, (B, 3, H, W), and returns a tensor or a tuple of such.
        image_size: H and W.
        path: The file.
        metadata: What the file is going to say of the model.

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
    """Leave out where each node comes from in Python: of a small model most of the file.

    These notes have paths of this machine.
    """
    from onnx_ir.traversal import RecursiveGraphIterator

    for node in RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()


def _compare(program: bytes, module: nn.Module, images: Tensor) -> float:
    """The largest difference between a program's and a module's outputs; NaN if there is one."""
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
    """The sizes of values of ONNX; open ones by their name."""
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in values
    }
