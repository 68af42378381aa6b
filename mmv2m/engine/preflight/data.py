"""Checks of the data that a config reads."""

import inspect
import os.path as osp
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config

from mmv2m.registry import DATASETS

from ..errors import UserError
from .annotations import kind_of
from .classes import check_mixed_labels
from .dataset_classes import check_classes, default_setting
from .files import is_remote
from .registered import require_class
from .settings import type_name

__all__ = ['check_data', 'datasets']

# How a published data set's folder looks, for configs without a ``data_hint`` of their own.
HINTS = dict(
    ImageNet='{train,val}/<class folder>/<image>.JPEG below data_root',
    CocoDataset='annotations/instances_{train,val}2017.json, train2017/ and val2017/ below '
    'data_root, from https://cocodataset.org',
    ADE20KDataset='images/{training,validation}/ and annotations/{training,validation}/ below '
    'data_root, as in ADEChallengeData2016 from https://ade20k.csail.mit.edu',
)


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Check that the datasets' types are registered and their files exist.

    Their classes are compared with the model's, and with what the files say, see
    :mod:`.annotations` and :mod:`.images`. Remote paths, and datasets that download themselves, are
    left to the datasets. The config's optional ``data_hint``, a string, tells a user how the
    missing data should look.

    Args:
        cfg: The whole config.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` to check.

    Raises:
        UserError: With the first type or file that cannot be found, or the first class that does
            not fit.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    there = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for where, dataset in datasets(loader.get('dataset'), f'{split}_dataloader.dataset'):
            dataset_scope = dataset.get('_scope_', scope)
            found = require_class(DATASETS, dataset_scope, dataset['type'], where)
            local = not _fetches_itself(dataset, found)
            if local:
                _check_paths(where, _paths(dataset, found), _hint(cfg, dataset, found))
            there.append((where, dataset, found, local))
        metrics = list(_metric_paths(cfg.get(f'{split}_evaluator')))
        _check_paths(f'{split}_evaluator', iter(metrics), '')
        where, dataset, found, _ = there[-1] if loader and there else ('', {}, None, False)
        if where == f'{split}_dataloader.dataset' and kind_of(found) == 'CocoDataset':
            _compare_files(split, metrics, dataset)
    folders: dict[str, list[str]] = {}
    for where, *rest in there:
        of_folders = check_classes(cfg, where, *rest)
        if of_folders is not None:
            _compare_folders(folders, where, of_folders)
    _compare_zero_labels(there)
    if cfg.get('model') is not None and 'train' in splits:
        check_mixed_labels(cfg)


def _compare_zero_labels(there: Sequence[tuple[str, dict, Any, bool]]) -> None:
    """Check that data sets of one class all have their labels reduced by one, or none has."""
    seen: dict[Any, tuple[str, bool]] = {}
    for where, dataset, found, _ in there:
        if kind_of(found) != 'BaseSegDataset':
            continue
        default = default_setting(found, 'reduce_zero_label')
        reduced = bool(dataset.get('reduce_zero_label', default))
        other, before = seen.setdefault(found, (where, reduced))
        if before != reduced:
            raise UserError(
                f'{other} has reduce_zero_label={before}, but {where} has {reduced}: a class would '
                'have two different labels'
            )


def _compare_folders(seen: dict[str, list[str]], where: str, names: list[str]) -> None:
    """Check that a folder has the same label in each data set."""
    for other, before in seen.items():
        if names != before:
            odd = sorted(set(names) ^ set(before))[0]
            has, lacks = (where, other) if odd in names else (other, where)
            raise UserError(
                f'{has} has a folder {odd!r}, and {lacks} has none: labels are the numbers of the '
                'sorted folders, so both need the same ones'
            )
    seen[where] = names


def datasets(node: Any, where: str) -> Iterator[tuple[str, dict]]:
    """Every dataset in a config, wrappers before what they wrap.

    Raises:
        UserError: If one has no type.
    """
    if isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            yield from datasets(item, f'{where}[{i}]')
    elif isinstance(node, dict) and node:
        if 'type' not in node:
            raise UserError(f'{where} has no type, which says what it is')
        yield where, node
        for key in ('dataset', 'datasets'):
            yield from datasets(node.get(key), f'{where}.{key}')


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
    return path if is_remote(path) else osp.join(root, path)


def _metric_paths(evaluator: Any) -> Iterator[tuple[str, str]]:
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator or {}]:
        if isinstance(metric.get('ann_file'), str):
            yield 'ann_file', metric['ann_file']


def _compare_files(split: str, metrics: Sequence[tuple[str, str]], dataset: dict) -> None:
    """Check that a metric has the annotations of the images that are tested."""
    name = dataset.get('ann_file')
    if not isinstance(name, str) or 'Panoptic' in type_name(dataset):  # which has two such files
        return
    tested = _join(dataset.get('data_root') or '', name)
    for key, path in metrics:
        if not is_remote(path) and osp.realpath(path) != osp.realpath(tested):
            raise UserError(
                f'{split}_evaluator.{key} is {path}, but {split}_dataloader.dataset has the '
                f'annotations {tested}: set both to the same file'
            )


def _check_paths(where: str, paths: Iterator[tuple[str, str]], hint: str) -> None:
    for key, path in paths:
        local = osp.abspath(path)
        if path and not is_remote(path) and not osp.exists(local):
            expected = f'; expected: {hint}' if hint else ''
            raise UserError(f'{where}.{key}: {local} does not exist{expected}')


def _hint(cfg: Config, dataset: dict, dataset_class: Any) -> str:
    name = dataset_class.__name__
    published = not (dataset.get('metainfo') or {}).get('classes')
    if name == 'CocoDataset':
        published &= str(dataset.get('ann_file')).endswith('2017.json')
    return cfg.get('data_hint') or (HINTS.get(name, '') if published else '')
