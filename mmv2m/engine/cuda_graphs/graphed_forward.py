"""A forward pass that runs as a CUDA graph where that is possible, and eagerly otherwise."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmv2m.ops.operator import is_watched

from .capture import Capture
from .state import State, obstacle

__all__ = ['GraphedForward']

MANY_PASSES = 50
"""Passes after which the log says why there is still no graph."""


class GraphedForward:
    """Takes the place of a module's ``forward`` in training.

    ``module.forward = GraphedForward(module)`` sets it. The first training passes run eagerly. When
    the same layout of the input has come a few times in a row, forward and backward pass are
    captured. Later inputs of that layout take two launches. Everything else runs eagerly, such as
    evaluation, a smaller last batch, and a second forward pass before the first one's backward
    pass.

    Every pass checks the parts of the module. If a submodule, a parameter, a hook or an attribute
    has changed, the module is captured again, or runs eagerly where a graph would ignore the
    change. Each reason to run eagerly is logged once.

    Args:
        module: A module that takes one tensor, and returns a tensor, or a tuple or list of tensors.
        patience: Passes with one layout before the module is captured.
        most: Number of attempts to capture. After the last one, the module stays eager.

    Attributes:
        replays: How many passes have run as a graph.
    """

    def __init__(self, module: nn.Module, patience: int = 3, most: int = 8) -> None:
        self.module = module
        self.eager: Callable[..., Any] = module.forward
        self.patience, self.most = patience, most
        self.attempts = self.replays = 0
        self._capture: Capture | None = None
        self._captured: State | None = None
        self._candidate: State | None = None
        self._in_a_row = self._changes = 0
        self._unused: set[int] = set()
        self._told: set[str] = set()

    def __call__(self, x: Tensor, *args: Any, **settings: Any) -> Any:
        """Run the module's forward pass."""
        if args or settings or not self._is_training_pass(x):
            return self.eager(x, *args, **settings)
        if self._captured is not None and self._captured.holds(x):
            self._candidate = None  # what came in between does not count as in a row
        elif self._is_time(x):
            self._try_to_capture(x)
        else:
            return self._run_and_look(x)
        if self._capture is None:
            return self.eager(x)
        if self._capture.is_waiting:
            self._tell('a forward pass comes before the last one has been differentiated')
            return self.eager(x)
        self.replays += 1
        return self._capture(x)

    def remove(self) -> None:
        """Give the module its own forward pass back, and free the graphs."""
        self._capture = self._captured = self._candidate = None
        if self.module.__dict__.get('forward') is self:
            del self.module.forward

    def _is_training_pass(self, x: Any) -> bool:
        return (
            self.module.training
            and torch.is_grad_enabled()
            and type(x) is Tensor
            and x.is_cuda
            and not torch.cuda.is_current_stream_capturing()
            and not is_watched()
        )

    def _is_time(self, x: Tensor) -> bool:
        """Whether a layout has come often enough in a row to be captured."""
        if self._captured is not None and not self._captured.module_holds():
            self._capture = self._captured = None  # frees memory that is of no use now
        if self._candidate is None or not self._candidate.holds(x):
            self._candidate = State(self.module, x)
            self._in_a_row = 0
            self._changes += 1
        self._in_a_row += 1
        if self._in_a_row == MANY_PASSES and self._unused:
            self._tell(f'its output {min(self._unused)} is not used by the loss')
        elif self._in_a_row == 1 and self.attempts == self.most:
            self._tell(f'it has been captured {self.most} times, and something changes again')
        elif self._changes == MANY_PASSES and not self.attempts:
            self._tell('its input, or something in it, changes again and again')
        # Parameters behind an unused output have no gradient, but a graph would give them zeros.
        enough = self._in_a_row > self.patience and not self._unused
        return enough and self.attempts < self.most

    def _run_and_look(self, x: Tensor) -> Any:
        """Run eagerly, and note which outputs get no gradient."""
        outputs = self.eager(x)
        unused = self._unused = set()
        for i, output in enumerate([outputs] if isinstance(outputs, Tensor) else outputs):
            if isinstance(output, Tensor) and output.requires_grad:
                unused.add(i)
                output.register_hook(partial(_discard, unused, i))
        return outputs

    def _try_to_capture(self, x: Tensor) -> None:
        self._capture = None  # frees its memory
        self._captured, self._candidate = self._candidate, None
        reason = obstacle(self.module, x)
        if reason is None:
            self.attempts += 1
            try:
                self._capture = Capture(self.module, self.eager, x)
            except Exception as error:  # PyTorch's, the driver's, or the module's own
                reason = f'capturing fails: {str(error).splitlines()[0]}'
        if reason is not None:
            self._tell(reason)

    def _tell(self, reason: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            logging.getLogger('mmv2m').warning(
                '%s runs without a CUDA graph: %s', type(self.module).__name__, reason
            )

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of the module has a graph of its own.
        return GraphedForward, (self.module, self.patience, self.most)


def _discard(numbers: set[int], number: int, gradient: Tensor) -> None:
    numbers.discard(number)
