"""A training loop by epochs that can go on in the middle of an epoch."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader, Sampler

from ..errors import UserError

__all__ = ['ResumableEpochLoop', 'resumable_loop']


class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop by epochs, which resumes an epoch where a checkpoint has left it.

    mmengine's own loop begins such an epoch anew, so that its first images are seen twice.

    Attributes:
        batches_done: Batches of the epoch that were trained before the checkpoint was saved.
    """

    batches_done: int = 0

    def run(self) -> Any:
        """Train all epochs.

        Raises:
            UserError: If an epoch has no batch, so that nothing would be trained.
        """
        if len(self.dataloader) == 0:
            raise UserError(
                'train_dataloader has no batch: its data set has fewer images than batch_size, and '
                'drop_last drops the only batch'
            )
        return super().run()

    def run_epoch(self) -> None:
        """Iterate one epoch, or the rest of it."""
        if not self.batches_done:
            super().run_epoch()
            return
        done, self.batches_done = self.batches_done, 0
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for idx, data_batch in enumerate(_rest_of(self.dataloader, done), done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


def resumable_loop(train_cfg: Any) -> Any:
    """Replace mmengine's loop by epochs in a ``train_cfg`` by the resumable one.

    Args:
        train_cfg: The setting of a config, or a loop. It is not changed.

    Returns:
        A changed copy, or ``train_cfg`` itself if it names another loop.
    """
    if not isinstance(train_cfg, dict):
        return train_cfg
    by_epoch = train_cfg.get('by_epoch') if 'type' not in train_cfg else False
    names = ('EpochBasedTrainLoop', 'mmengine.EpochBasedTrainLoop', EpochBasedTrainLoop)
    if not by_epoch and train_cfg.get('type') not in names:
        return train_cfg
    settings = {key: value for key, value in train_cfg.items() if key != 'by_epoch'}
    return dict(settings, type=ResumableEpochLoop)


def _rest_of(loader: DataLoader, done: int) -> DataLoader:
    """A loader of the rest of an epoch. The first batches are not loaded."""
    return DataLoader(
        loader.dataset,
        batch_sampler=_Rest(loader.batch_sampler, done),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )


class _Rest(Sampler):
    """The batches of a sampler, without the first ones."""

    def __init__(self, batches: Any, done: int) -> None:
        self.batches, self.done = batches, done

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.batches), self.done, None)

    def __len__(self) -> int:
        return max(len(self.batches) - self.done, 0)
