"""Nodes that onnxscript has no function for: a ``Scan``, and those of the graph inside one."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from onnxscript.evaluator import default as default_evaluator

__all__ = ['Recorder', 'record_scan']


class Recorder:
    """Records the nodes of a graph; every value has a name of its own, as ONNX demands.

    Args:
        dtype: Of all values but the constants.
        name: Stands in front of the values' names. A graph inside another one needs another name.
    """

    def __init__(self, dtype: ir.DataType, name: str) -> None:
        self.dtype, self.name = dtype, name
        self.nodes: list[ir.Node] = []
        self.inputs: list[ir.Value] = []

    def value(self, name: str, *sizes: int | str) -> ir.Value:
        """A value of the graph; sizes that may differ from call to call have names."""
        kind = ir.TensorType(self.dtype)
        return ir.Value(name=f'{self.name}_{name}', type=kind, shape=ir.Shape(sizes))

    def input(self, name: str, *sizes: int | str) -> ir.Value:
        """A value that the graph is given."""
        self.inputs.append(self.value(name, *sizes))
        return self.inputs[-1]

    def constant(self, name: str, *numbers: int) -> ir.Value:
        """An int64 vector, which axes and sizes are given as."""
        value = ir.Value(name=f'{self.name}_{name}', type=ir.TensorType(ir.DataType.INT64))
        tensor = ir.AttrTensor('value', ir.tensor(numbers, dtype=ir.DataType.INT64))
        self.nodes.append(ir.node('Constant', [], {'value': tensor}, outputs=[value]))
        return value

    def add(self, kind: str, *inputs: ir.Value, to: ir.Value | str, **attributes: Any) -> ir.Value:
        """A node's only output, which is new if only its name is given."""
        return self.add_several(kind, *inputs, to=[to], **attributes)[0]

    def add_several(
        self, kind: str, *inputs: ir.Value, to: Sequence[ir.Value | str], **attributes: Any
    ) -> list[ir.Value]:
        """All outputs of a node; those are new of which only the name is given."""
        outputs = [self._new(output) if isinstance(output, str) else output for output in to]
        self.nodes.append(ir.node(kind, inputs, attributes, outputs=outputs))
        return outputs

    def graph(self, *outputs: ir.Value) -> ir.Graph:
        """What has been recorded."""
        return ir.Graph(self.inputs, outputs, nodes=self.nodes, name=f'scan_{self.name}')

    def _new(self, name: str) -> ir.Value:
        return ir.Value(name=f'{self.name}_{name}', type=ir.TensorType(self.dtype))


def record_scan(*inputs: Any, **attributes: Any) -> Any:
    """The second output of a ``Scan``; onnxscript's own function for it has only one output."""
    scan = ir.node('Scan', inputs, attributes, num_outputs=2)
    default_evaluator().nodes.append(scan)
    return scan.outputs[1]
