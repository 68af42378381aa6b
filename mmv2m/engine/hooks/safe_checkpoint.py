"""Checkpoints that survive a kill at any moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmv2m.registry import HOOKS

from ..errors import UserError
from ..resuming import ATOMIC_FILES

__all__ = ['SafeCheckpointHook']


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, which never leaves a work dir without a whole checkpoint.

    mmengine's hook removes the old checkpoint before it writes the new one, and writes the file in
    place. This hook replaces a local file when the new one is complete, and then removes old ones.
    Settings, file names and contents are mmengine's. ``tools/train.py`` uses this hook wherever a
    config has mmengine's.
    """

    backend_args: dict | None
    key_indicators: list[str]
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]
    file_backend: Any

    def before_train(self, runner: Runner) -> None:
        """Prepare for saving. Local files are written whole."""
        local = '://' not in str(self.out_dir or runner.work_dir)
        if local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = dict(backend=ATOMIC_FILES)
        super().before_train(runner)
        # If its folder was moved or copied, a resumed run still has the old paths. mmengine would
        # remove the file there when a better checkpoint comes.
        if self.save_best is not None and len(self.key_indicators) == 1:
            self.best_ckpt_path = self._moved(self.best_ckpt_path)
        elif self.save_best is not None:
            paths = self.best_ckpt_path_dict
            self.best_ckpt_path_dict = {key: self._moved(path) for key, path in paths.items()}

    def _moved(self, path: str | None) -> str | None:
        return path and self.file_backend.join_path(self.out_dir, Path(path).name)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._removing_late():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        wanted = self.key_indicators if self.save_best else []
        if unknown := [key for key in wanted if key not in metrics and key != 'auto']:
            raise UserError(
                f'save_best of the checkpoint hook is {unknown[0]!r}, but the validation gives '
                f'{", ".join(metrics)}'
            )
        with self._removing_late():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_late(self) -> Iterator[None]:
        backend, self.file_backend = self.file_backend, _LateRemoval(self.file_backend)
        try:
            yield
            removals = self.file_backend.removals
        finally:
            self.file_backend = backend
        for remove, path in removals:
            remove(path)


class _LateRemoval:
    """A file backend that notes the files to remove, and leaves them for now."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.removals: list[tuple[Any, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.removals.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.removals.append((self.backend.rmtree, path))
