"""Check a data set's classes against its files and the model's heads, whatever its kind."""

import inspect
import os.path as osp
from typing import Any

from mmengine.config import Config

from ..errors import UserError
from .annotations import check_coco, check_voc, kind_of
from .classes import check_class_count, head_settings, named_classes
from .files import is_remote
from .images import check_folders, check_label_maps, check_listed
from .model import inner_model

__all__ = ['check_classes', 'default_setting']


def check_classes(
    cfg: Config, where: str, dataset: dict, found: Any, local: bool
) -> list[str] | None:
    """Check the classes of one data set.

    Args:
        cfg: The whole config.
        where: Where the data set stands in it.
        dataset: Its settings, whose paths exist.
        found: Its class.
        local: Whether its files are on this machine.

    Returns:
        The names of its folders, if these are its classes.

    Raises:
        UserError: If classes, files and heads do not fit together.
    """
    classes = named_classes(where, dataset, found)
    folders = None
    # Files are looked at where they lie as the data set's class says, and where it reads them all.
    prefixes = dataset.get('data_prefix') or ''
    prefixes = list(prefixes.values()) if isinstance(prefixes, dict) else [prefixes]
    places = [dataset.get('data_root'), dataset.get('ann_file'), *prefixes]
    remote = any(isinstance(place, str) and is_remote(place) for place in places)
    kind = kind_of(found) if local and not remote else None
    if kind == 'CustomDataset':
        folders, classes = _classification(where, dataset, found, classes)
    elif kind == 'BaseSegDataset':
        _segmentation(cfg, where, dataset, found, classes)
    elif kind is not None and classes is not None:
        _detection(where, dataset, kind, classes)
    if classes is not None:
        check_class_count(cfg, where, dataset, classes)
    return folders


def _classification(
    where: str, dataset: dict, found: Any, classes: list[str] | None
) -> tuple[list[str] | None, list[str] | None]:
    """The folders if they are the classes, and the names of the classes if they are known."""
    unlabelled = found.__name__ == 'ImageNet' and dataset.get('split') == 'test'
    if unlabelled or not dataset.get('with_label', True) or dataset.get('multi_label'):
        return None, None
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    prefix = prefix.get('img_path', '') if isinstance(prefix, dict) else prefix
    root, top = _joined(dataset, prefix), dataset.get('data_root') or ''
    ann_file = dataset.get('ann_file') or ''
    listed = osp.join(top, 'meta', f'{dataset.get("split")}.txt')
    if not ann_file and dataset.get('split') and osp.exists(listed):
        ann_file = osp.join('meta', f'{dataset["split"]}.txt')
    if ann_file:
        labels = check_listed(where, _joined(dataset, ann_file), root)
        if classes is not None and len(labels) > len(classes):
            raise UserError(
                f'{where}: {ann_file} has the label {labels[-1]}, but there are {len(classes)} '
                f'classes, from 0 to {len(classes) - 1}'
            )
        # What is tested need not have an image of each class.
        return None, classes or (labels if where.startswith('train') else None)
    extensions = dataset.get('extensions') or default_setting(found, 'extensions')
    folders = check_folders(where, root, extensions)
    if classes is not None and len(classes) != len(folders):
        raise UserError(
            f'{where}: {root} has {len(folders)} folders, each of which is a class, but '
            f"{len(classes)} classes are named; set the data set's metainfo=dict(classes=(...)), "
            "or type='CustomDataset', whose classes are the folders"
        )
    return folders, classes or folders


def _detection(where: str, dataset: dict, kind: str, classes: list[str]) -> None:
    prefix, ann_file = dataset.get('data_prefix') or {}, dataset.get('ann_file')
    if not isinstance(ann_file, str) or not ann_file:
        return
    named = bool((dataset.get('metainfo') or {}).get('classes'))
    file = _joined(dataset, ann_file)
    if kind == 'CocoDataset':
        check_coco(where, file, _joined(dataset, prefix.get('img', '')), classes, named)
    else:
        root = _joined(dataset, prefix.get('sub_data_root', ''))
        check_voc(where, file, dataset, root, classes, named)


def _segmentation(
    cfg: Config, where: str, dataset: dict, found: Any, classes: list[str] | None
) -> None:
    if classes is None and not where.startswith('train'):
        raise UserError(
            f'{where}: a {found.__name__} has no classes of its own, and the metrics need their '
            'names: set metainfo=dict(classes=(...)) in each data set'
        )
    names = ('img_suffix', 'seg_map_suffix', 'reduce_zero_label', 'ignore_index')
    settings = {name: dataset.get(name, default_setting(found, name)) for name in names}
    heads = head_settings(inner_model(cfg), 'ignore_index') if cfg.get('model') else ()
    settings['ignored'] = [settings['ignore_index'], *(value for _, value in heads)]
    ann_file = _joined(dataset, dataset.get('ann_file') or '')
    settings['ann_file'] = ann_file if osp.isfile(ann_file) else ''
    prefix = dataset.get('data_prefix') or {}
    maps = prefix.get('seg_map_path')
    folders = _joined(dataset, prefix.get('img_path', '')), maps and _joined(dataset, maps)
    own = (getattr(found, 'METAINFO', None) or {}).get('classes')
    selected = own is not None and classes != list(own)  # labels are translated by name
    check_label_maps(where, settings, folders, None if selected else classes)


def _joined(dataset: dict, path: str) -> str:
    return osp.join(dataset.get('data_root') or '', path)


def default_setting(found: Any, name: str) -> Any:
    """The default of a setting, which a class or one of its bases has."""
    for base in found.__mro__:
        value = getattr(base, 'IMG_EXTENSIONS', None) if name == 'extensions' else None
        parameter = inspect.signature(base.__init__).parameters.get(name)
        if value or (parameter is not None and parameter.default is not parameter.empty):
            return value or parameter.default  # type: ignore[union-attr]
    return None
