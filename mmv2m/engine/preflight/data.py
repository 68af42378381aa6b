"""Checks of the data that a config reads."""

import inspect
import os.path as osp
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config

from mmv2m.registry import DATASETS

from ..errors import UserError
from .files import is_remote
from .registered import require_class

__all__ = ['check_data']

# How a dataset's folder looks, for configs without a ``data_hint`` of their own.
HINTS = dict(
    ImageNet='{train,val}/<class folder>/<image>.JPEG below data_root',
    CocoDataset='annotations/instances_{train,val}2017.json, train2017/ and val2017/ below '
    'data_root, from https://cocodataset.org',
    ADE20KDataset='images/{training,validation}/ and annotations/{training,validation}/ below '
    'data_root, as in ADEChallengeData2016 from https://ade20k.csail.mit.edu',
)


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Check that the datasets' types are registered and their files exist.

    Remote paths, and datasets that download themselves, are left to the datasets. The config's
    optional ``data_hint``, a string, tells a user how the missing data should look.

    Args:
        cfg: The whole config.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` to check.

    Raises:
        UserError: With the first type or file that cannot be found.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for where, dataset in _datasets(loader.get('dataset'), f'{split}_dataloader.dataset'):
            dataset_scope = dataset.get('_scope_', scope)
            found = require_class(DATASETS, dataset_scope, dataset['type'], where)
            if not _fetches_itself(dataset, found):
                _check_paths(where, _paths(dataset, found), _hint(cfg, found))
        _check_paths(f'{split}_evaluator', _metric_paths(cfg.get(f'{split}_evaluator')), '')


def _datasets(node: Any, where: str) -> Iterator[tuple[str, dict]]:
    """Every dataset in a config, wrappers before what they wrap."""
    if isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            yield from _datasets(item, f'{where}[{i}]')
    elif isinstance(node, dict) and 'type' in node:
        yield where, node
        for key in ('dataset', 'datasets'):
            yield from _datasets(node.get(key), f'{where}.{key}')


def _fetches_itself(dataset: dict, dataset_class: Any) -> bool:
    """Whether it downloads its files or reads them from a storage backend."""
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    parameter = inspect.signature(dataset_class).parameters.get('download')
    download = dataset.get('download', parameter.default if parameter else False)
    return bool(download) or backend != 'local'


def _paths(dataset: dict, dataset_class: Any) -> Iterator[tuple[str, str]]:
    """Settings and the paths they stand for, joined as mmengine's datasets join them."""
    root = dataset.get('data_root') or ''
    yield 'data_root', root
    ann_file = dataset.get('ann_file')
    if isinstance(ann_file, str) and ann_file:
        yield 'ann_file', _join(root, ann_file)
    prefixes = dataset.get('data_prefix') or {}
    if isinstance(prefixes, str):
        yield 'data_prefix', _join(root, prefixes)
        return
    for key, prefix in prefixes.items():
        if isinstance(prefix, str) and prefix:
            yield f'data_prefix.{key}', _join(root, prefix)
    if not prefixes and 'split' in dataset and dataset_class.__name__.startswith('ImageNet'):
        yield 'split', _join(root, dataset['split'])


def _join(root: str, path: str) -> str:
    return path if is_remote(path) else osp.join(root, osp.expanduser(path))


def _metric_paths(evaluator: Any) -> Iterator[tuple[str, str]]:
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator or {}]:
        if isinstance(metric.get('ann_file'), str):
            yield 'ann_file', metric['ann_file']


def _check_paths(where: str, paths: Iterator[tuple[str, str]], hint: str) -> None:
    for key, path in paths:
        local = osp.abspath(osp.expanduser(path))
        if path and not is_remote(path) and not osp.exists(local):
            expected = f'; expected: {hint}' if hint else ''
            raise UserError(f'{where}.{key}: {local} does not exist{expected}')


def _hint(cfg: Config, dataset_class: Any) -> str:
    by_class = (HINTS[c.__name__] for c in inspect.getmro(dataset_class) if c.__name__ in HINTS)
    return cfg.get('data_hint') or next(by_class, '')
