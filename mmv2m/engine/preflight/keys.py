"""Check the types and settings of what a config has beside its model."""

import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    FUNCTIONS,
    HOOKS,
    LOG_PROCESSORS,
    LOOPS,
    METRICS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
    Registry,
)
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from mmv2m.utils.arguments import arguments
from mmv2m.utils.suggestions import unknown_setting

from ..errors import UserError
from .data import datasets
from .hooks import hooks
from .model import numbered
from .registered import require_class
from .settings import check_counts, check_setting_names, type_name

__all__ = ['check_keys']

OF_LOADERS = (
    *('dataset', 'sampler', 'batch_sampler', 'num_batch_per_epoch'),
    'disable_subprocess_warning',
)
"""What mmengine reads of a dataloader, beside the arguments of PyTorch's."""

OF_ENVIRONMENT = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
"""What mmengine reads of ``env_cfg``."""

LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')
"""Levels of logging that Python has."""

PACKAGES = dict(
    TensorboardVisBackend='tensorboard',
    WandbVisBackend='wandb',
    MLflowVisBackend='mlflow',
    ClearMLVisBackend='clearml',
    NeptuneVisBackend='neptune',
    DVCLiveVisBackend='dvclive',
    AimVisBackend='aim',
)
"""What mmengine's backends of curves import as they are made."""

Part = tuple[str, dict, Registry, tuple[str, ...]]
"""Where a part stands, the part, whose registry has its type, and what mmengine itself reads."""


def check_keys(cfg: Config, splits: Sequence[str]) -> None:
    """Check that there are the types that a config names, and that they take their settings.

    Args:
        cfg: The whole config.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` are used.

    Raises:
        UserError: With the first type or setting that there is not.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            check_setting_names(cfg, f'{split}_dataloader', loader, DataLoader, OF_LOADERS)
            _check_loader(f'{split}_dataloader', loader)
    _check_machine(cfg)
    parts = (*_of_data(cfg, splits), *_of_run(cfg, splits), *_of_logs(cfg))
    for where, part, registry, read in parts:
        found = require_class(registry, part.get('_scope_', scope), part['type'], where)
        check_setting_names(cfg, where, part, found, read)


def _check_loader(where: str, loader: dict) -> None:
    check_counts(where, loader, batch_size=1, num_workers=0)
    if not loader.get('dataset'):
        raise UserError(f'{where} has no dataset: add dataset=dict(type=..., ...)')
    if 'sampler' not in loader:
        raise UserError(
            f"{where} has no sampler: add sampler=dict(type='DefaultSampler', shuffle=...), which "
            'chooses the images of a batch'
        )
    if loader.get('batch_sampler') and 'batch_size' not in loader:
        raise UserError(f'{where}.batch_sampler needs {where}.batch_size')


def _check_machine(cfg: Config) -> None:
    """Check the settings that functions of mmengine get, or that its runner looks up."""
    environment = cfg.get('env_cfg') or {}
    given = [
        ('randomness', cfg.get('randomness'), arguments(Runner.set_randomness)[0]),
        ('env_cfg', environment, OF_ENVIRONMENT),
        ('env_cfg.mp_cfg', environment.get('mp_cfg'), arguments(set_multi_processing)[0]),
    ]
    for where, settings, known in given:
        for name in settings or ():
            if name not in known:
                names = [n for n in known if n not in ('self', 'distributed')]
                raise UserError(f'{where}: {unknown_setting(name, names)}')
    level = cfg.get('log_level') or 'INFO'
    if isinstance(level, str) and not isinstance(logging.getLevelName(level), int):
        raise UserError(f'log_level must be one of {", ".join(LEVELS)}, but is {level!r}')


def _of_data(cfg: Config, splits: Sequence[str]) -> Iterator[Part]:
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for name in ('sampler', 'batch_sampler'):
            for where, sampler in _typed(loader.get(name), f'{split}_dataloader.{name}'):
                yield where, sampler, DATA_SAMPLERS, ()
        for name in ('collate_fn', 'worker_init_fn'):
            for where, function in _typed(loader.get(name), f'{split}_dataloader.{name}'):
                # mmengine looks for them in its own registry only.
                yield where, dict(function, _scope_='mmengine'), FUNCTIONS, ()
        for where, dataset in datasets(loader.get('dataset'), f'{split}_dataloader.dataset'):
            yield where, dataset, DATASETS, ()
            for place, transform in _typed(dataset.get('pipeline'), f'{where}.pipeline'):
                yield place, transform, TRANSFORMS, ()


def _of_run(cfg: Config, splits: Sequence[str]) -> Iterator[Part]:
    for split in {'val', 'test'} & set(splits):
        for where, metric in _typed(cfg.get(f'{split}_evaluator'), f'{split}_evaluator'):
            if 'metrics' not in metric:
                yield where, metric, METRICS, ()
        if cfg.get(f'{split}_cfg') is not None:
            loop = dict(type=f'{split.capitalize()}Loop') | cfg[f'{split}_cfg']
            yield f'{split}_cfg', loop, LOOPS, ()
    for where, hook in hooks(cfg):
        yield where, hook, HOOKS, ('priority',)
    if 'train' not in splits:
        return
    wrapper = cfg.get('optim_wrapper') or {}
    if isinstance(wrapper.get('optimizer'), dict):
        own = ('constructor', 'paramwise_cfg')
        yield 'optim_wrapper', dict(type='OptimWrapper') | wrapper, OPTIM_WRAPPERS, own
        if 'type' in wrapper['optimizer']:
            yield 'optim_wrapper.optimizer', wrapper['optimizer'], OPTIMIZERS, ()
    for where, scheduler in _typed(cfg.get('param_scheduler'), 'param_scheduler'):
        yield where, scheduler, PARAM_SCHEDULERS, ('convert_to_iter_based',)
    loop = cfg.get('train_cfg') or {}
    usual = 'EpochBasedTrainLoop' if loop.get('by_epoch', True) else 'IterBasedTrainLoop'
    if 'type' in loop or 'by_epoch' in loop:
        yield 'train_cfg', dict(type=usual) | loop, LOOPS, ('by_epoch',)


def _of_logs(cfg: Config) -> Iterator[Part]:
    visualizer = cfg.get('visualizer') or {}
    yield from ((w, v, VISUALIZERS, ()) for w, v in _typed(visualizer or None, 'visualizer'))
    for where, backend in _typed(visualizer.get('vis_backends'), 'visualizer.vis_backends'):
        yield where, backend, VISBACKENDS, ()
        package = PACKAGES.get(type_name(backend))
        if package and find_spec(package) is None:
            raise UserError(
                f'{where}: {type_name(backend)} needs {package}, which is not installed: '
                f'pip install {package}'
            )
    processor = dict(type='LogProcessor') | (cfg.get('log_processor') or {})
    yield 'log_processor', processor, LOG_PROCESSORS, ()


def _typed(value: Any, where: str) -> Iterator[tuple[str, dict]]:
    """What :func:`numbered` gives, each of which needs a ``type``."""
    for place, part in numbered(value, where):
        if 'type' not in part and 'metrics' not in part:
            raise UserError(f'{place} has no type, which says what it is')
        yield place, part
