"""How fast a config trains on this GPU: a few steps on made-up data."""

import time
from collections.abc import Callable
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from .made_batch import make_batch

__all__ = ['Throughput', 'training_throughput']

WARM_UP_STEPS = 3
LEAST_STEPS = 5


class Throughput:
    """Images a second of a config's training step, one measurement for each batch.

    Data loading and communication between GPUs are not part of it.

    Args:
        cfg: The config; its weights are not loaded, since they make no difference here.
        size: H and W of the images.
        device: Where to run.
        seconds: How long a measurement lasts at least.
    """

    def __init__(
        self, cfg: Config, size: tuple[int, int], device: str = 'cuda', seconds: float = 1.5
    ) -> None:
        self.cfg, self.size, self.device, self.seconds = cfg, size, device, seconds
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
            model = MODELS.build(deepcopy(cfg.model)).to(device).train()
            # One GPU has nobody to share statistics with.
            self.model = revert_sync_batchnorm(model)
            self.optim_wrapper = build_optim_wrapper(self.model, deepcopy(cfg.optim_wrapper))

    def measure(self, batch_size: int) -> float:
        """Images a second at a batch size.

        Raises:
            torch.OutOfMemoryError: If the batch is too large.
        """
        data = make_batch(self.cfg, self.size, batch_size, self.device)
        for _ in range(WARM_UP_STEPS):
            self.model.train_step(data, self.optim_wrapper)
        started, steps = self._now(), 0
        while steps < LEAST_STEPS or self._now() - started < self.seconds:
            self.model.train_step(data, self.optim_wrapper)
            steps += 1
        return batch_size * steps / (self._now() - started)

    def _now(self) -> float:
        if self.device != 'cpu':
            torch.cuda.synchronize()
        return time.perf_counter()


def training_throughput(
    throughput: Callable[[int], float], batch_size: int
) -> tuple[int, float] | None:
    """The largest batch that fits, halving from the one asked for, and its images a second.

    Args:
        throughput: Measures a batch size, such as :meth:`Throughput.measure`.
        batch_size: What to start from.

    Returns:
        None if not even one image fits.
    """
    while batch_size:
        try:
            return batch_size, throughput(batch_size)
        except torch.OutOfMemoryError:
            pass
        # Only here is the error forgotten, and with it the activations that it kept.
        torch.cuda.empty_cache()
        batch_size //= 2
    return None
