"""The home folder in a config's paths."""

import os.path as osp
from typing import Any

from mmengine.config import Config

__all__ = ['expand_home']

PATHS = (
    'work_dir',
    'load_from',
    *(
        f'{split}_{part}'
        for split in ('train', 'val', 'test')
        for part in ('dataloader', 'evaluator')
    ),
)
"""Settings at the top level that are paths, or contain paths."""


def expand_home(cfg: Config) -> None:
    """Replace ``~`` at the beginning of a config's paths by the home folder, in place.

    Some data sets do that themselves, but most do not.
    """
    for name in PATHS:
        if name in cfg:
            cfg[name] = _expanded(cfg[name])


def _expanded(node: Any) -> Any:
    if isinstance(node, str):
        return osp.expanduser(node) if node.startswith('~') else node
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _expanded(value)
    elif isinstance(node, (list, tuple)):
        return type(node)(map(_expanded, node))
    return node
