"""Logging of losses for which the host does not wait in every step."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import Runner
from torch import Tensor

from mmv2m.registry import HOOKS

__all__ = ['DeferredRuntimeInfoHook']


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's RuntimeInfoHook, which reads a step's losses while the next step runs.

    mmengine reads each loss, and the norm of the gradients where they are clipped, as soon as the
    step has been launched. So the GPU has nothing to do until the host has prepared the next step.
    This hook copies the numbers to the host while the host goes on. It writes them to the message
    hub one step later, or as soon as the hub is read. Values, names and order are mmengine's.

    Replace mmengine's hook by ``default_hooks = dict(runtime_info=dict(type=
    'DeferredRuntimeInfoHook'))``.

    Attributes:
        on_read: Called with the numbers of each step, when they have arrived; None calls nothing.
    """

    def __init__(self) -> None:
        self.on_read: Callable[[dict[str, Any]], None] | None = None
        self._pending: _Numbers | None = None
        self._norms: _KeepNorm | None = None

    def before_train(self, runner: Runner) -> None:
        """Let the message hub wait for numbers when it is read, and keep the gradients' norm."""
        super().before_train(runner)
        hub = runner.message_hub
        hub.__class__ = _LateMessageHub
        hub.complete = lambda: self._flush(hub)
        hub.is_incomplete = self._has_pending
        wrapper = runner.optim_wrapper
        if getattr(wrapper, 'clip_grad_kwargs', None):
            self._norms = _KeepNorm(wrapper.clip_func, wrapper.grad_name)
            wrapper.clip_func = self._norms

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Keep this step's numbers, and write the previous step's numbers."""
        self._flush(runner.message_hub)
        norms = {} if self._norms is None else self._norms.take()
        self._pending = _Numbers({**norms, **(outputs or {})})

    def after_train(self, runner: Runner) -> None:
        """Write the last numbers, and restore the hub and the optimizer wrapper."""
        self._flush(runner.message_hub)
        super().after_train(runner)
        runner.message_hub.__class__ = MessageHub
        del runner.message_hub.complete, runner.message_hub.is_incomplete
        if self._norms is not None:
            runner.optim_wrapper.clip_func = self._norms.clip
            self._norms = None

    def _has_pending(self, key: str) -> bool:
        return self._pending is not None and key.removeprefix('train/') in self._pending.numbers

    def read_all(self, runner: Runner) -> None:
        """Wait for the last step's numbers, and write them."""
        self._flush(runner.message_hub)

    def _flush(self, hub: MessageHub) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            numbers = pending.read()
            for name, value in numbers.items():
                hub.update_scalar(f'train/{name}', value)
            if self.on_read is not None:
                self.on_read(numbers)


class _LateMessageHub(MessageHub):
    """A message hub that waits for the last step's numbers when it is read.

    Attributes:
        complete: Function that writes the numbers that are missing.
        is_incomplete: Function that tells whether the last value of a scalar is missing.
    """

    complete: Callable[[], None]
    is_incomplete: Callable[[str], bool]

    @property
    def log_scalars(self) -> 'OrderedDict[str, HistoryBuffer]':
        """All scalars by name."""
        self.complete()
        return super().log_scalars

    def get_scalar(self, key: str) -> HistoryBuffer:
        """The scalar of a name."""
        # mmengine's timer reads the time of every step, which needs no wait for the GPU.
        if key in self._log_scalars and not self.is_incomplete(key):
            return self._log_scalars[key]
        return super().get_scalar(key)

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        self.complete()
        return super().state_dict()


class _KeepNorm:
    """Clips gradients, and keeps their norm on its device."""

    def __init__(self, clip: Callable[..., Tensor | None], name: str) -> None:
        self.clip, self.name = clip, name
        self.norm: Tensor | None = None

    def __call__(self, *args: Any, **settings: Any) -> None:
        """Clip the gradients. Returns nothing, because mmengine would wait for a result."""
        self.norm = self.clip(*args, **settings)

    def take(self) -> dict[str, Tensor]:
        """The norm by its name, if gradients have been clipped since the last call."""
        norm, self.norm = self.norm, None
        return {} if norm is None else {self.name: norm}


class _Numbers:
    """Numbers of a step, on their way from the GPU to the host."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        self.numbers = numbers
        on_gpu = {n: v for n, v in numbers.items() if isinstance(v, Tensor) and v.is_cuda}
        self.names = list(on_gpu)
        if on_gpu:
            gathered = torch.stack([v.detach().double().squeeze() for v in on_gpu.values()])
            self.host = torch.empty(gathered.shape, dtype=torch.float64, pin_memory=True)
            self.host.copy_(gathered, non_blocking=True)
            self.arrived = torch.cuda.Event()
            self.arrived.record()

    def read(self) -> dict[str, Any]:
        """The numbers in their order. Waits for them if they have not arrived."""
        if not self.names:
            return self.numbers
        self.arrived.synchronize()
        return {**self.numbers, **dict(zip(self.names, self.host.tolist(), strict=True))}
