"""Names for the tensors among the arguments of :func:`mmv2m.ops.directional_ssm`."""

from typing import NamedTuple

from torch import Tensor

__all__ = ['SSMTensors']


class SSMTensors(NamedTuple):
    """The tensors among the arguments of :func:`mmv2m.ops.directional_ssm`, in its order."""

    x: Tensor
    gate: Tensor | None
    conv_weight: Tensor | None
    conv_bias: Tensor | None
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor

    def conv(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None] | None:
        """Arguments of the convolution, or None if there is no convolution."""
        if self.conv_weight is None:
            return None
        return self.x, self.gate, self.conv_weight.flatten(1), self.conv_bias

    def select(self, part: slice) -> 'SSMTensors':
        """Select the maps of some directions, if each direction has a map of its own."""
        return self._replace(x=self.x[part]) if self.x.dim() == 5 else self
