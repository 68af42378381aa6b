"""Opening ONNX files in onnxruntime, and quantising their weights to 8 bits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor

__all__ = ['open_session', 'quantise']


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open a file in onnxruntime, on the CPU.

    Its threads do not wait for the next run in a loop, because a waiting loop would take cores from
    the other steps that are measured in turns.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry('session.force_spinning_stop', '1')
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])


def quantise(path: Path, kept: Sequence[Tensor] = ()) -> Path:
    """Write a file beside the given one that multiplies by weights in 8-bit integers.

    Each run quantises the other factor of such a product, by the range of its values.

    Args:
        path: An ONNX file that contains its weights.
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
