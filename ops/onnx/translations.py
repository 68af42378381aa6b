"""Which operator of torch.library becomes which nodes of ONNX."""

from collections.abc import Callable
from typing import Any

from .. import coupled_scan, directional_conv, directional_scan  # noqa: F401 - define operators
from .conv import translate_conv
from .coupled_scan import translate_coupled
from .scan import translate_scan

__all__ = ['translations']


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The ``custom_translation_table`` of :func:`torch.onnx.export`.

    While that runs, every operator that others can compose is composed, so a graph has only three
    operators of this package: the scan, which becomes ``Scan``, the coupled scan, which becomes two
    of these for each corner, one inside the other, and the convolution in front of both, which
    becomes ``Conv``.

    Returns:
        By operator of torch.library, a function that records ONNX nodes with onnxscript.
    """
    from torch import ops

    return {
        ops.mmv2m.directional_scan.default: translate_scan,
        ops.mmv2m.coupled_scan.default: translate_coupled,
        ops.mmv2m.directional_conv.default: translate_conv,
    }
