"""A hook that lets a resumed training go on with the next random numbers and data."""

from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmv2m.registry import HOOKS

from ..resuming import ResumableEpochLoop, WorkerSeeds, generator_states, restore_generators

__all__ = ['RandomStateHook']

KEY = 'random_state'


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Let a resumed training go on as if it had not been interrupted.

    Checkpoints get an entry ``random_state``. It has the states of the generators of Python, NumPy,
    PyTorch and the GPU and the seeds of the samplers, of every rank, and the place in the epoch.
    Resuming restores them. Two more rules make the training independent of the interruption:

    - Validation leaves the generators as it found them.
    - Workers of the data loader are seeded for each batch; see
      :class:`mmv2m.engine.resuming.WorkerSeeds`.

    :class:`mmv2m.engine.resuming.ResumableEpochLoop` lets an epoch go on in its middle.
    ``tools/train.py`` uses this hook and that loop in every run.
    """

    # This hook runs before the one that saves checkpoints, and behind those that train.
    priority = 'LOW'

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None
        self._gathered: tuple[int, list[dict[str, Any]]] = (-1, [])
        self._before_val: dict[str, Any] | None = None
        self._worker_seeds: WorkerSeeds | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the states of a checkpoint that is being resumed."""
        if not runner._resume:
            return
        saved = checkpoint.get(KEY)
        if saved is None:
            self._warn(runner, 'the checkpoint was saved without its random state')
        elif len(saved['ranks']) != get_world_size():
            before = len(saved['ranks'])
            self._warn(runner, f'it was saved by {before} processes, not {get_world_size()}')
        else:
            self._resumed = saved

    def before_train(self, runner: Runner) -> None:
        """Set the place in the data, and log it if nothing is left to train."""
        loop = runner.train_loop
        done, planned, unit = loop.epoch, loop.max_epochs, 'epochs'
        if isinstance(loop, IterBasedTrainLoop):
            done, planned, unit = loop.iter, loop.max_iters, 'iters'
        if planned and done >= planned:
            runner.logger.info(
                f'This training has finished: {done} of {planned} {unit} are done. '
                f'A larger train_cfg.max_{unit} goes on from here.'
            )
        if self._resumed is not None:
            self._restore_place(runner, self._resumed)
        if loop.dataloader.num_workers:
            self._seed_workers(runner)
        # Without a generator of its own, each start of the loader's iterator takes a number from
        # PyTorch's generator, and a resumed training has one more start.
        if loop.dataloader.generator is None:
            loop.dataloader.generator = _generator(runner.seed)

    def before_train_epoch(self, runner: Runner) -> None:
        """Restore the generators, as late as possible."""
        if self._resumed is not None:
            restore_generators(self._resumed['ranks'][get_rank()]['generators'])
            self._resumed = None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Gather the ranks' states if a checkpoint is due."""
        if self._worker_seeds is not None:
            self._worker_seeds.first = runner.iter + 1
        if any(
            self.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and self.is_last_train_iter(runner))
            for hook in _checkpoint_hooks(runner, by_epoch=False)
        ):
            self._gather(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Gather the ranks' states if a checkpoint is due."""
        if any(
            self.every_n_epochs(runner, hook.interval, hook.save_begin)
            or (hook.save_last and self.is_last_train_epoch(runner))
            for hook in _checkpoint_hooks(runner, by_epoch=True)
        ):
            self._gather(runner, runner.iter)

    def before_val(self, runner: Runner) -> None:
        """Keep the states. A checkpoint that is saved as the best one gets them too."""
        self._before_val = generator_states()
        if runner._train_loop is not None:
            self._gather(runner, runner.iter)

    def after_val(self, runner: Runner) -> None:
        """Restore the generators, as if there had been no validation."""
        if self._before_val is not None:
            restore_generators(self._before_val)
            self._before_val = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the states to a checkpoint. Only rank 0 calls this."""
        meta = checkpoint['meta']
        iteration, ranks = self._gathered
        if iteration != meta['iter']:
            if get_world_size() > 1:
                runner.logger.warning(
                    'RandomStateHook: this checkpoint, which no CheckpointHook saves, '
                    'has no random states: one process cannot ask the others for theirs'
                )
                return
            ranks = [_state_of_rank(runner)]
        length = _pass_length(runner)
        done = 0 if length is None else meta['iter'] - meta['epoch'] * length
        checkpoint[KEY] = dict(ranks=ranks, pass_length=length, batches_done=done)

    def _gather(self, runner: Runner, iteration: int) -> None:
        if self._gathered[0] != iteration:
            self._gathered = iteration, all_gather_object(_state_of_rank(runner))

    def _restore_place(self, runner: Runner, saved: dict[str, Any]) -> None:
        samplers, seeds = _samplers(runner), saved['ranks'][get_rank()]['sampler_seeds']
        for sampler, seed in zip(samplers, seeds, strict=False):
            if seed is not None:
                sampler.seed = seed
        loop, done = runner.train_loop, saved['batches_done']
        if isinstance(loop, IterBasedTrainLoop) or not done:
            return
        if saved['pass_length'] != _pass_length(runner):
            before, now = saved['pass_length'], _pass_length(runner)
            self._warn(runner, f'an epoch had {before} batches and has {now}', 'the place in it')
        elif isinstance(loop, ResumableEpochLoop):
            loop.batches_done = done
        else:
            self._warn(runner, f'{type(loop).__name__} begins an epoch anew', 'the place in it')

    def _seed_workers(self, runner: Runner) -> None:
        loop, loader = runner.train_loop, runner.train_loop.dataloader
        seeds = WorkerSeeds(loader, runner.seed, get_rank(), _pass_length(runner))
        self._worker_seeds, seeds.first = seeds, runner.iter
        if isinstance(loop, IterBasedTrainLoop) and not loop.dataloader_iterator._resolve_sampler():
            # mmengine loads all batches up to here again, and drops them.
            seeds.first = 0
            if runner.iter >= len(loader) and not loader.persistent_workers:
                name = type(_samplers(runner)[0]).__name__
                self._warn(runner, f'{name} cannot skip batches', "the workers' augmentation")

    def _warn(self, runner: Runner, why: str, what: str = '') -> None:
        what = what or 'random generators, the seeds of samplers and the place in an epoch'
        runner.logger.warning(f'Not restored by this resume: {what}, since {why}')


def _checkpoint_hooks(runner: Runner, by_epoch: bool) -> list[CheckpointHook]:
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return [hook for hook in hooks if hook.by_epoch == by_epoch]


def _state_of_rank(runner: Runner) -> dict[str, Any]:
    seeds = [getattr(sampler, 'seed', None) for sampler in _samplers(runner)]
    return dict(generators=generator_states(), sampler_seeds=seeds)


def _samplers(runner: Runner) -> list[Any]:
    """The objects that choose the training's images."""
    loader = runner.train_loop.dataloader
    inner = getattr(loader.batch_sampler, 'sampler', None)
    return [inner or loader.sampler, loader.batch_sampler]


def _pass_length(runner: Runner) -> int | None:
    """Batches of a pass over the training's data; None if one pass never ends."""
    if hasattr(_samplers(runner)[0], 'skip'):  # mmengine asks for it where a sampler is infinite
        return None
    return len(runner.train_loop.dataloader)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
