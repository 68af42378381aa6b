"""A hook that keeps the loss of every rank: mmengine logs that of rank 0, and averages nothing."""

from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

__all__ = ['RankLosses']


@HOOKS.register_module()
class RankLosses(Hook):
    """Writes rank<N>.txt, a loss for each iteration, and initial.pth and final.pth, the weights."""

    def before_train(self, runner):
        self._save(runner, 'initial.pth')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with Path(runner.work_dir, f'rank{runner.rank}.txt').open('a') as file:
            print(outputs['loss'].item(), file=file)

    def after_train(self, runner):
        self._save(runner, 'final.pth')

    @staticmethod
    def _save(runner, name):
        if runner.rank == 0:
            model = getattr(runner.model, 'module', runner.model)
            torch.save(model.state_dict(), Path(runner.work_dir, name))
