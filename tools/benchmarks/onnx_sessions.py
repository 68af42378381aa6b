"""Files of ONNX in onnxruntime, and with 8-bit weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor

__all__ = ['open_session', 'quantise']


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """The file in onnxruntime, on the CPU.

    Its threads do not wait for the next run in a loop, which would take cores from what is measured
    in turns with it.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry('session.force_spinning_stop', '1')
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])


def quantise(path: Path, kept: Sequence[Tensor] = ()) -> Path:
    """A file beside it whose products with weights are of 8-bit integers.

    Each call quantises what it multiplies by a weight, by the range of its values.

    Args:
        path: A file with its weights inside.
        kept: Weights of linear layers, (out, in), whose products stay in float32.
    """
    small = path.with_name(f'{path.stem}_int8_{len(kept)}.onnx')
    graph = onnx.load(path).graph
    arrays = [weight.detach().numpy().T for weight in kept]
    constants = {
        constant.name
        for constant in graph.initializer
        if any(np.array_equal(onnx.numpy_helper.to_array(constant), one) for one in arrays)
    }
    spared = [node.name for node in graph.node if constants.intersection(node.input)]
    assert len(spared) >= len(kept), 'a weight that is to be kept is not in the file'
    quantize_dynamic(
        path,
        small,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=['MatMul', 'Gemm'],
        nodes_to_exclude=spared,
    )
    return small
