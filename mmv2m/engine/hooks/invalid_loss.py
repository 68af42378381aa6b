"""A hook that stops a training whose loss is not finite any more."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmv2m.registry import HOOKS

from ..errors import TrainingStoppedError
from ..resuming import latest_checkpoint
from .deferred_scalars import DeferredRuntimeInfoHook

__all__ = ['StopAtInvalidLossHook']

SHOWN = 16
"""Most images that the error names. The log names all of them."""


@HOOKS.register_module()
class StopAtInvalidLossHook(Hook):
    """Stop the training at the first loss that is NaN or infinite, and name the images of its step.

    Without this hook, a training goes on with parameters that are NaN, saves them, and removes
    earlier checkpoints. With it, nothing is saved any more, so the last good checkpoint stays.

    The hook checks the loss before mixed precision scales it. So a step whose gradients overflow,
    which a dynamic loss scale skips, does not count. Without a dynamic scale, a norm of gradients
    that is not finite stops the training too. That norm is known if gradients are clipped and
    :class:`DeferredRuntimeInfoHook` is used.

    With :class:`DeferredRuntimeInfoHook`, the host does not wait for the GPU, because a step's
    numbers are read while the next step runs. With mmengine's RuntimeInfoHook, which reads each
    loss at once, this hook does the same.

    Args:
        enable: Whether the hook does anything. ``default_hooks.invalid_loss.enable=False`` switches
            it off.
    """

    # It runs behind the hook that reads losses, and before hooks that save or log something.
    priority = 'HIGH'

    def __init__(self, enable: bool = True) -> None:
        self.enable = enable
        self._runner: Any = None
        self._late: DeferredRuntimeInfoHook | None = None
        self._step: tuple[int, Any] = (0, None)

    def before_train(self, runner: Runner) -> None:
        """Ask for the numbers of each step."""
        if not self.enable:
            return
        self._runner = runner
        found = (hook for hook in runner.hooks if isinstance(hook, DeferredRuntimeInfoHook))
        self._late = next(found, None)
        if self._late is not None:
            self._late.on_read = self._check

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Keep this step's images until its loss is known."""
        if not self.enable:
            return
        self._step = (runner.iter, data_batch)
        if self._late is None:
            self._check(outputs or {})

    def after_train_epoch(self, runner: Runner) -> None:
        """Check the last step, before anything is saved or validated."""
        self._finish()

    def before_val(self, runner: Runner) -> None:
        """Check the last step in trainings by iterations too."""
        self._finish()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse to save parameters that are not finite."""
        if not self.enable or self._runner is None:
            return
        self._finish()
        names = {name.removeprefix('module.') for name, _ in runner.model.named_parameters()}
        saved = {k: v for k, v in checkpoint['state_dict'].items() if k in names}
        finite = [v.isfinite().all() for v in saved.values() if v.is_floating_point()]
        if finite and not torch.stack(finite).all():
            self._stop('the parameters are not finite')

    def after_train(self, runner: Runner) -> None:
        """Check the last step, and release the references to the run."""
        self._finish()
        if self._late is not None:
            self._late.on_read = None
        self._runner = self._late = None
        self._step = (0, None)

    def _finish(self) -> None:
        if self.enable and self._late is not None:
            self._late.read_all(self._runner)

    def _check(self, numbers: dict[str, Any]) -> None:
        """Stop if the numbers of the kept step are not finite."""
        for name, value in numbers.items():
            norm = name == 'grad_norm' and not self._is_scaled()
            if not norm and name != 'loss':
                continue
            number = float(value.detach() if isinstance(value, Tensor) else value)
            if not math.isfinite(number):
                self._stop(f'{"the norm of the gradients" if norm else "the loss"} is {number}')

    def _is_scaled(self) -> bool:
        """Whether a loss scale skips steps whose gradients are not finite."""
        scaler = getattr(self._runner.optim_wrapper, 'loss_scaler', None)
        return bool(scaler is not None and scaler.is_enabled())

    def _stop(self, problem: str) -> None:
        runner, (iteration, batch) = self._runner, self._step
        self._late = None  # hooks that save or log during the exit must not check again
        names = list(_names(batch))
        bad = list(_names_of_bad_images(batch))
        runner.logger.error(f'The images of iteration {iteration + 1}: {", ".join(names)}')
        shown = ', '.join(names[:SHOWN]) + (
            f' and {len(names) - SHOWN} more, which the log names' if len(names) > SHOWN else ''
        )
        kept = latest_checkpoint(runner.work_dir)
        raise TrainingStoppedError(
            f'the training has stopped: {problem} in iteration {iteration + 1}, epoch '
            f'{runner.epoch + 1}'
            + (f', rank {get_rank()}' if get_world_size() > 1 else '')
            + (f'; {", ".join(bad)} has pixels that are not finite' if bad else '')
            + f'; the images were {shown}; '
            + (f'the last good checkpoint is {kept}' if kept else 'no checkpoint was saved before')
        )


def _names(batch: Any) -> Iterator[str]:
    """The names of a batch's samples, in any nesting."""
    if isinstance(batch, BaseDataElement):
        keys = ('img_path', 'img_id', 'sample_idx')
        key = next((key for key in keys if batch.get(key) is not None), None)
        if key is not None:
            yield str(batch.get(key)) if key == 'img_path' else f'{key} {batch.get(key)}'
    elif isinstance(batch, dict):
        for value in batch.values():
            yield from _names(value)
    elif isinstance(batch, (list, tuple)):
        for item in batch:
            yield from _names(item)


def _names_of_bad_images(batch: Any) -> Iterator[str]:
    if not isinstance(batch, dict) or 'inputs' not in batch or 'data_samples' not in batch:
        return
    images, names = batch['inputs'], list(_names(batch['data_samples']))
    if len(images) != len(names):
        return
    for image, name in zip(images, names, strict=True):
        if isinstance(image, Tensor) and not image.isfinite().all():
            yield name
