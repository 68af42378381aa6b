"""Seeds for the workers of a data loader, which depend on the number of a batch alone."""

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

__all__ = ['WorkerSeeds']


class WorkerSeeds:
    """Seeds the generators of a data loader's workers before each batch.

    The generators of a worker cannot be saved, because a worker is a process of its own and some
    batches ahead of the training. So each batch gets a seed that is made of the run's seed, the
    rank, and the number of the batch since the training began. A resumed training needs only that
    number. The augmentation depends neither on the number of workers nor on whether they persist.

    Args:
        loader: The data loader. Its ``worker_init_fn`` and ``collate_fn`` are replaced. Its workers
            must not have started yet.
        seed: The run's seed.
        rank: The rank of this process.
        pass_length: Batches of a pass over the loader; None if one pass never ends.

    Attributes:
        first: Number of the first batch of workers that start now. The training keeps it up to
            date.
    """

    def __init__(self, loader: DataLoader, seed: int, rank: int, pass_length: int | None) -> None:
        self.first = 0
        self._seed, self._rank, self._pass_length = seed, rank, pass_length
        self._init, self._collate = loader.worker_init_fn, loader.collate_fn
        self._loaded = 0
        loader.worker_init_fn = self._start
        loader.collate_fn = self._seed_next

    def _start(self, worker_id: int) -> None:
        """Run in a worker when it starts."""
        if self._init is not None:
            self._init(worker_id)
        self._loaded = 0
        self._seed_batch()

    def _seed_next(self, samples: Any) -> Any:
        """Run in a worker when it has the samples of a batch."""
        batch = self._collate(samples)
        self._loaded += 1
        self._seed_batch()
        return batch

    def _seed_batch(self) -> None:
        words = np.random.SeedSequence([self._seed, self._rank, self._number()]).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.manual_seed(int(words[2]))

    def _number(self) -> int:
        """The number of the batch that this worker loads next. Workers take turns."""
        worker = get_worker_info()
        assert worker is not None
        place, passes, length = self._loaded, 0, self._pass_length
        if length is not None and length > worker.id:
            passes, place = divmod(place, -((worker.id - length) // worker.num_workers))
        return self.first + passes * (length or 0) + place * worker.num_workers + worker.id
