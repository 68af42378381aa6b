"""The origin of a result: its config, code, machine and log."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmv2m.packages import DISTRIBUTIONS
from mmv2m.root import ROOT
from mmv2m.version import __version__

__all__ = [
    'changed_settings',
    'config_digest',
    'config_id',
    'file_digest',
    'hardware_name',
    'log_digest',
    'repository_state',
    'software_versions',
]

PACKAGES = dict(torch=('torch',), **DISTRIBUTIONS)
"""Import names, and the distributions that install them."""

BESIDES = (
    *('work_dir', 'launcher', 'resume', 'load_from', 'experiment_name', 'env_cfg'),
    *('default_hooks', 'custom_imports', 'visualizer', 'vis_backends'),
    *('log_level', 'log_processor', 'data_hint', 'backend_args', 'auto_scale_lr'),
)
"""Settings of a config that make no difference to its result."""

BESIDES_ANYWHERE = (
    *('data_root', 'num_workers', 'pin_memory', 'persistent_workers', 'prefetch_factor'),
    *('collate_fn', 'scan_backend', '_scope_', 'backend_args'),
)
"""Settings that make no difference to the result, at any depth of a config."""

AS_IF_LEFT_OUT = {
    'constructor': (
        *('GroupedOptimWrapperConstructor', 'mmv2m.GroupedOptimWrapperConstructor'),
        'DefaultOptimWrapperConstructor',
    ),
    'ema_type': (
        *('ForeachExponentialMovingAverage', 'mmv2m.ForeachExponentialMovingAverage'),
        'ExponentialMovingAverage',
    ),
    'type': ('BatchedClsDataPreprocessor', 'mmv2m.BatchedClsDataPreprocessor'),
}
"""Values of settings that give the same result as the default."""

HOOKS_BESIDES = ('CUDAGraphHook', 'mmv2m.CUDAGraphHook')
"""Hooks that make no difference to the result."""


def config_id(path: str | Path) -> str:
    """A config's path in the repository, or its file name if it lies elsewhere."""
    path = Path(path).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def config_digest(cfg: Config) -> str:
    """SHA-256 of a config, without settings that make no difference to the result.

    Args:
        cfg: The config as it is in its file.
    """
    settings = dict(_settings(cfg.to_dict()))
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def changed_settings(cfg: Config, run: Config) -> dict[str, Any]:
    """The settings that a run changed, without those that make no difference to the result.

    Args:
        cfg: The config as it is in its file.
        run: The config of the run.

    Returns:
        New values by dotted key, and None for settings that were removed. A file is given by its
        name and digest. A value that JSON cannot hold is given by its ``repr``.
    """
    before, after = (dict(_settings(c.to_dict())) for c in (cfg, run))
    return {
        key: _portable(after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _settings(node: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of the leaves of a config. Empty containers are leaves."""
    last = key.rpartition('.')[2]
    if key in BESIDES or last in BESIDES_ANYWHERE:
        return
    if isinstance(node, str) and node in AS_IF_LEFT_OUT.get(last, ()):
        return
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _settings(value, f'{key}.{name}' if key else str(name))
    elif isinstance(node, (list, tuple)) and node:
        for i, value in enumerate(v for v in node if not _is_hook_besides(v)):
            yield from _settings(value, f'{key}.{i}')
    elif isinstance(node, (list, tuple)):
        yield key, []
    else:
        plain = node is None or isinstance(node, (bool, int, float, str, dict))
        yield key, node if plain else repr(node)


def _is_hook_besides(value: Any) -> bool:
    return isinstance(value, dict) and value.get('type') in HOOKS_BESIDES


def _portable(value: Any) -> Any:
    """A value that has the same meaning on another machine."""
    if isinstance(value, str) and Path(value).is_file():
        return f'{Path(value).name} sha256:{file_digest(Path(value))[:16]}'
    return value


def file_digest(*paths: Path) -> str:
    """SHA-256 of the joined content of files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open('rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def log_digest(work_dir: Path) -> str:
    """SHA-256 of a training's scalars, of all its parts in order, or else of its text logs.

    Args:
        work_dir: Work dir of the training.

    Raises:
        FileNotFoundError: If the work dir has neither scalars nor text logs.
    """
    for pattern in ('*/vis_data/scalars.json', '*/*.log'):
        if logs := sorted(work_dir.glob(pattern)):
            return file_digest(*logs)
    raise FileNotFoundError(f'{work_dir} holds no log of a training')


def repository_state() -> tuple[str | None, bool]:
    """The clone's commit, and whether tracked files differ from it; (None, False) without one."""
    commit = _git('rev-parse', 'HEAD')
    # The commit of a repository that happens to enclose an installed package does not count.
    if commit is None or _git('rev-parse', '--show-prefix') != '':
        return None, False
    return commit, bool(_git('status', '--porcelain', '--untracked-files=no'))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ['git', *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def hardware_name(gpus: int) -> str:
    """The name of the device that the processes of a run compute on.

    Args:
        gpus: How many processes there are.
    """
    if torch.cuda.is_available():
        return f'{gpus} x {torch.cuda.get_device_name()}'
    return f'{gpus} x CPU ({platform.machine()}, {torch.get_num_threads()} threads)'


def software_versions() -> dict[str, str]:
    """Versions of this package, of Python, and of those of :data:`PACKAGES` that are installed."""
    versions = dict(mmv2m=__version__, python=platform.python_version())
    for name, distributions in PACKAGES.items():
        if version := _first_version(distributions):
            versions[name] = version
    return versions


def _first_version(distributions: Iterable[str]) -> str | None:
    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
