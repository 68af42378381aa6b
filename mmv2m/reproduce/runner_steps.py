"""Training steps of a config by mmengine's Runner, on batches that are in memory."""

from collections.abc import Callable, Generator, Iterator, Sequence
from copy import deepcopy
from itertools import cycle
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar, cast
from uuid import uuid4

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader, IterableDataset

from mmv2m.engine.runner import build_runner

__all__ = ['Script', 'made_loader', 'now', 'run_steps', 'without_weights']

T = TypeVar('T')
Script = Callable[[Runner], Generator[None, None, T]]
"""A script of actions around the steps of a training. Each ``yield`` is one step."""

MANY = 10_000
"""Steps in an epoch of made-up data. The epoch never ends, but schedulers use its length."""


def run_steps(cfg: Config, script: Script[T], loader: DataLoader | None = None) -> T:
    """Train with mmengine's Runner, for the steps of a script.

    The runner has the config's hooks, optimizer, schedulers and precision. It does not validate and
    writes no checkpoint. Published weights are not loaded, because they make no difference to the
    time of a step.

    Args:
        cfg: The config. It is not changed.
        script: Generator function. It is called with the runner when training begins, and goes on
            after each step with all of its hooks. Training ends when it returns.
        loader: A data loader in the place of the config's. Defaults to None, for the config's.

    Returns:
        The return value of the script.

    Raises:
        RuntimeError: If the config's training ends before the script does.
    """
    with TemporaryDirectory() as folder:
        runner = build_runner(_adapted(cfg, folder, loader))
        if loader is not None:
            runner._train_dataloader = loader
        # On one GPU there are no other processes to share statistics with.
        runner.model = revert_sync_batchnorm(runner.model)
        runner.register_hook(_Driver(script), priority='LOWEST')
        try:
            runner.train()
        except _Finished as finished:
            runner.call_hook('after_train')
            return cast(T, finished.result)
        finally:
            runner.logger.handlers.clear()
            DefaultScope._instance_dict.pop(runner.experiment_name, None)
    raise RuntimeError('the training ended before its script did')


class _Finished(Exception):
    """Ends a training in the middle of an epoch."""

    def __init__(self, result: Any) -> None:
        self.result = result


class _Driver(Hook):
    """Continues a script after each step."""

    def __init__(self, script: Script[Any]) -> None:
        self.script = script

    def before_train(self, runner: Runner) -> None:
        self.steps = self.script(runner)
        next(self.steps)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        try:
            next(self.steps)
        except StopIteration as end:
            raise _Finished(end.value) from None


class _MadeBatches(IterableDataset):
    """Repeats the same batches."""

    def __init__(self, batches: Sequence[dict[str, Any]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return MANY

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in cycle(self.batches):
            yield dict(batch, data_samples=[_fresh(s) for s in batch['data_samples']])


def made_loader(batches: Sequence[dict[str, Any]]) -> DataLoader:
    """A data loader that repeats batches, which takes no time.

    Args:
        batches: Batches from :func:`.made_batch.make_batch`. They are not changed. Each step gets
            copies of the samples, because preprocessing writes labels into them.
    """
    return DataLoader(_MadeBatches(batches), batch_size=None, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch


def _fresh(sample: BaseDataElement) -> BaseDataElement:
    """A copy of a sample with the same values. ``clone()`` takes a hundred times as long."""
    twin = sample.__class__.__new__(sample.__class__)
    twin.__dict__.update(sample.__dict__)
    for name in ('_metainfo_fields', '_data_fields'):
        twin.__dict__[name] = set(getattr(sample, name))
    return twin


def _adapted(cfg: Config, folder: str, loader: DataLoader | None) -> Config:
    cfg = without_weights(cfg)
    for split in ('val', 'test'):
        for name in (f'{split}_cfg', f'{split}_dataloader', f'{split}_evaluator'):
            cfg[name] = None
    cfg.default_hooks = dict(cfg.get('default_hooks', {}), checkpoint=None)
    if loader is not None:
        cfg.default_hooks.sampler_seed = None  # there is no sampler
    cfg.update(work_dir=folder, launcher='none', log_level='ERROR', experiment_name=uuid4().hex)
    return cfg


def without_weights(cfg: Config) -> Config:
    """A copy of a config that loads no weights."""
    cfg = deepcopy(cfg)
    cfg.update(load_from=None, resume=False)
    waiting = [cfg.model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            init = part.get('init_cfg')
            if isinstance(init, dict) and init.get('type') == 'Pretrained':
                part['init_cfg'] = None
            part.pop('pretrained', None)
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            waiting.extend(part)
    return cfg


def now() -> float:
    """The time in seconds, after the GPU (if there is one) has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()
