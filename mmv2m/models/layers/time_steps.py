"""The initialisation of time steps of state space models, which configs do not change."""

import math
from abc import abstractmethod

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

__all__ = ['OwnTimeSteps', 'draw_time_steps']

DT_MIN, DT_MAX = 1e-3, 1e-1
"""Range of the time steps at initialisation (Mamba, section 3.6)."""


def draw_time_steps(weight: Tensor, bias: Tensor) -> None:
    """Initialise a time step's projection in place.

    The biases are set so that the steps at a zero input are log-uniform in [DT_MIN, DT_MAX]. The
    weights are uniform in [-R^-1/2, R^-1/2].

    Args:
        weight: (..., R).
        bias: (...).
    """
    bound = weight.shape[-1] ** -0.5
    nn.init.uniform_(weight, -bound, bound)
    with torch.no_grad():
        bias.uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp_()
        bias.copy_(bias + (-(-bias).expm1()).log())  # the inverse of the softplus


class OwnTimeSteps(BaseModule):
    """A module whose time steps keep their own initialisation, whatever ``init_cfg`` says."""

    @abstractmethod
    def reset_time_step(self) -> None:
        """Draw the time steps anew; see :func:`draw_time_steps`."""

    def init_weights(self) -> None:
        """Initialise as configured, then put back the time steps' own initialisation."""
        first_time = not self.is_init
        super().init_weights()
        if first_time:
            self.reset_time_step()
