"""Check the types and settings of what a config has beside its model."""

from collections.abc import Iterator, Sequence

from mmengine.config import Config
from mmengine.registry import (
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    Registry,
)
from torch.utils.data import DataLoader

from .data import datasets
from .hooks import hooks
from .model import numbered
from .registered import require_class
from .settings import check_setting_names

__all__ = ['check_keys']

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
            own = ('dataset', 'sampler', 'batch_sampler', 'num_batch_per_epoch')
            check_setting_names(cfg, f'{split}_dataloader', loader, DataLoader, own)
    for where, part, registry, read in (*_of_data(cfg, splits), *_of_run(cfg, splits)):
        found = require_class(registry, part.get('_scope_', scope), part['type'], where)
        check_setting_names(cfg, where, part, found, read)


def _of_data(cfg: Config, splits: Sequence[str]) -> Iterator[Part]:
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for where, dataset in datasets(loader.get('dataset'), f'{split}_dataloader.dataset'):
            yield where, dataset, DATASETS, ()
            for place, transform in numbered(dataset.get('pipeline'), f'{where}.pipeline'):
                if 'type' in transform:
                    yield place, transform, TRANSFORMS, ()


def _of_run(cfg: Config, splits: Sequence[str]) -> Iterator[Part]:
    for split in {'val', 'test'} & set(splits):
        for where, metric in numbered(cfg.get(f'{split}_evaluator'), f'{split}_evaluator'):
            if 'type' in metric and 'metrics' not in metric:
                yield where, metric, METRICS, ()
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
    for where, scheduler in numbered(cfg.get('param_scheduler'), 'param_scheduler'):
        if 'type' in scheduler:
            yield where, scheduler, PARAM_SCHEDULERS, ('convert_to_iter_based',)
    loop = cfg.get('train_cfg') or {}
    usual = 'EpochBasedTrainLoop' if loop.get('by_epoch', True) else 'IterBasedTrainLoop'
    if 'type' in loop or 'by_epoch' in loop:
        yield 'train_cfg', dict(type=usual) | loop, LOOPS, ('by_epoch',)
