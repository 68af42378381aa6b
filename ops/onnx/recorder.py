"""Nodes for which onnxscript has no function: a ``Scan``, and the nodes of the graph inside it."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from onnxscript.evaluator import default as default_evaluator

__all__ = ['Recorder', 'record_scan']


class Recorder:
    """Records the nodes of a graph, in which every value has a unique name, as ONNX demands.

    Args:
        dtype: Dtype of all values except constants.
        name: A prefix of the values' names. A graph inside another one needs another prefix.
    """

    def __init__(self, dtype: ir.DataType, name: str) -> None:
        self.dtype, self.name = dtype, name
        self.nodes: list[ir.Node] = []
        self.inputs: list[ir.Value] = []

    def value(self, name: str, *sizes: int | str) -> ir.Value:
        """Make a value of the graph. Sizes that may differ from call to call have names."""
        kind = ir.TensorType(self.dtype)
        return ir.Value(name=f'{self.name}_{name}', type=kind, shape=ir.Shape(sizes))

    def input(self, name: str, *sizes: int | str) -> ir.Value:
        """Add an input to the graph."""
        self.inputs.append(self.value(name, *sizes))
        return self.inputs[-1]

    def constant(self, name: str, *numbers: int) -> ir.Value:
        """Add an int64 vector, the form in which axes and sizes are given."""
        value = ir.Value(name=f'{self.name}_{name}', type=ir.TensorType(ir.DataType.INT64))
        tensor = ir.AttrTensor('value', ir.tensor(numbers, dtype=ir.DataType.INT64))
        self.nodes.append(ir.node('Constant', [], {'value': tensor}, outputs=[value]))
        return value

    def add(self, kind: str, *inputs: ir.Value, to: ir.Value | str, **attributes: Any) -> ir.Value:
        """Add a node, and return its only output, which is new if ``to`` is a name."""
        return self.add_several(kind, *inputs, to=[to], **attributes)[0]

    def add_several(
        self, kind: str, *inputs: ir.Value, to: Sequence[ir.Value | str], **attributes: Any
    ) -> list[ir.Value]:
        """Add a node, and return all its outputs, which are new where ``to`` has a name."""
        outputs = [self._new(output) if isinstance(output, str) else output for output in to]
        self.nodes.append(ir.node(kind, inputs, attributes, outputs=outputs))
        return outputs

    def graph(self, *outputs: ir.Value) -> ir.Graph:
        """Make the graph of all recorded nodes."""
        return ir.Graph(self.inputs, outputs, nodes=self.nodes, name=f'scan_{self.name}')

    def _new(self, name: str) -> ir.Value:
        return ir.Value(name=f'{self.name}_{name}', type=ir.TensorType(self.dtype))


def record_scan(*inputs: Any, **attributes: Any) -> Any:
    """Record a ``Scan``, and return its second output; onnxscript's own function has only one."""
    scan = ir.node('Scan', inputs, attributes, num_outputs=2)
    default_evaluator().nodes.append(scan)
    return scan.outputs[1]
