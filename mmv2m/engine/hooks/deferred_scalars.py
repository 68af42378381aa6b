"""Losses in the log without the host waiting for the GPU in every step."""

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
    step has been launched. So the GPU has nothing to do until the host has prepared the next one.
    Here the numbers are copied to the host while it goes on, and written to the message hub one
    step later, or as soon as anybody reads the hub. Values, names and order are mmengine's.

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
        """Have readers of the message hub served, and take over the norm of the gradients."""
        super().before_train(runner)
        hub = runner.message_hub
        hub.__class__ = _LateMessageHub
        hub.complete = lambda: self._flush(hub)
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
        """Note this step's numbers, and hand on those of the step before."""
        self._flush(runner.message_hub)
        norms = {} if self._norms is None else self._norms.take()
        self._pending = _Numbers({**norms, **(outputs or {})})

    def after_train(self, runner: Runner) -> None:
        """Hand on what is left, and give the hub and the optimizer wrapper their own ways back."""
        self._flush(runner.message_hub)
        super().after_train(runner)
        runner.message_hub.__class__ = MessageHub
        del runner.message_hub.complete
        if self._norms is not None:
            runner.optim_wrapper.clip_func = self._norms.clip
            self._norms = None

    def read_all(self, runner: Runner) -> None:
        """Wait for the last step's numbers, and hand them on."""
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
        complete: Writes what is missing.
    """

    complete: Callable[[], None]

    @property
    def log_scalars(self) -> 'OrderedDict[str, HistoryBuffer]':
        """All scalars by name."""
        self.complete()
        return super().log_scalars

    def get_scalar(self, key: str) -> HistoryBuffer:
        """The scalar of a name."""
        self.complete()
        return super().get_scalar(key)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        self.complete()
        return super().state_dict()


class _KeepNorm:
    """Clips gradients, and keeps their norm where the GPU has it."""

    def __init__(self, clip: Callable[..., Tensor | None], name: str) -> None:
        self.clip, self.name = clip, name
        self.norm: Tensor | None = None

    def __call__(self, *args: Any, **settings: Any) -> None:
        """Clip. mmengine reads what a function that clips returns; this returns nothing."""
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
        """The numbers, in their order; waits for them if need be."""
        if not self.names:
            return self.numbers
        self.arrived.synchronize()
        return {**self.numbers, **dict(zip(self.names, self.host.tolist(), strict=True))}
