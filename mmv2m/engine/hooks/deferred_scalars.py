"""Losses in the log without the host waiting for the GPU in every step."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.hooks import CheckpointHook, LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from mmv2m.registry import HOOKS

__all__ = ['DeferredRuntimeInfoHook']


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's RuntimeInfoHook, which reads a step's losses while the next step runs.

    mmengine reads each loss, and the norm of the gradients where they are clipped, as soon as the
    step has been launched. So the GPU has nothing to do until the host has prepared the next one.
    Here the numbers are copied to the host while it goes on. A step's numbers are in the message
    hub one step later; but when the log is written, a checkpoint is saved by iterations or an epoch
    ends, they are all there. Values, names and order are mmengine's.

    Replace mmengine's hook by ``default_hooks = dict(runtime_info=dict(type=
    'DeferredRuntimeInfoHook'))``. On a CPU it does what mmengine's does.
    """

    def __init__(self) -> None:
        self._pending: _Numbers | None = None
        self._norms: _KeepNorm | None = None

    def before_train(self, runner: Runner) -> None:
        """Take over the norm of the gradients, for which mmengine would wait."""
        super().before_train(runner)
        self._pending = None
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
        numbers = dict(outputs or {})
        if self._norms is not None:
            numbers = {**self._norms.take(), **numbers}
        self._flush(runner)
        self._pending = _Numbers(numbers)
        if self._is_read(runner, batch_idx):
            self._flush(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Hand on what is left."""
        self._flush(runner)

    def after_train(self, runner: Runner) -> None:
        """Hand on what is left, and give the optimizer wrapper its own clipping back."""
        self._flush(runner)
        super().after_train(runner)
        if self._norms is not None:
            runner.optim_wrapper.clip_func = self._norms.clip
            self._norms = None

    def _is_read(self, runner: Runner, batch_idx: int) -> bool:
        """Whether a hook reads the message hub behind this step."""
        if self.is_last_train_iter(runner) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            return True
        for hook in runner.hooks:
            if isinstance(hook, LoggerHook) and self.every_n_inner_iters(batch_idx, hook.interval):
                return True
            by_iter = isinstance(hook, CheckpointHook) and not hook.by_epoch
            if by_iter and self.every_n_train_iters(runner, hook.interval):
                return True
        return False

    def _flush(self, runner: Runner) -> None:
        if self._pending is not None:
            for name, value in self._pending.read().items():
                runner.message_hub.update_scalar(f'train/{name}', value)
        self._pending = None


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
