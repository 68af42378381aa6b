"""Arguments of Triton's kernels for both passes of the scan."""

from typing import Any

from torch import Tensor

from ..gpu.maps import power_of_two
from ..gpu.scan_inputs import ScanInputs

__all__ = ['scan_distances', 'scan_options', 'scan_tensors']


def scan_tensors(inputs: ScanInputs) -> tuple[Tensor | None, ...]:
    """The kernels' first arguments."""
    return (
        *(inputs.x, inputs.delta, inputs.delta_bias),
        *(inputs.rates(), inputs.B, inputs.C, inputs.D),
    )


def scan_distances(inputs: ScanInputs) -> tuple[int, ...]:
    """Elements from one token to the next, in the order of the kernels' arguments."""
    return inputs.x_token, inputs.delta_token, inputs.B_token, inputs.C_token


def scan_options(inputs: ScanInputs) -> dict[str, Any]:
    """Options for which a kernel is compiled."""
    return dict(
        B_KIND=inputs.B_kind,
        C_KIND=inputs.C_kind,
        HAS_D=inputs.D is not None,
        HAS_BIAS=inputs.delta_bias is not None,
        SOFTPLUS=inputs.softplus,
        STATES=power_of_two(inputs.states),
    )
