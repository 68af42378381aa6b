"""The table of operators of torch.library and the functions that record them as ONNX nodes."""

from collections.abc import Callable
from typing import Any

from .. import coupled_scan, directional_conv, directional_scan  # noqa: F401 - define operators
from .conv import translate_conv
from .coupled_scan import translate_coupled
from .scan import translate_scan

__all__ = ['translations']


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Make the ``custom_translation_table`` for :func:`torch.onnx.export`.

    During an export, every operator that can be composed of others is composed. So a graph has only
    three operators of this package. The scan becomes a ``Scan``. The coupled scan becomes two
    nested ``Scan`` nodes for each corner. The convolution in front of both becomes a ``Conv``.

    Returns:
        For each operator of torch.library, a function that records ONNX nodes with onnxscript.
    """
    from torch import ops

    return {
        ops.mmv2m.directional_scan.default: translate_scan,
        ops.mmv2m.coupled_scan.default: translate_coupled,
        ops.mmv2m.directional_conv.default: translate_conv,
    }
