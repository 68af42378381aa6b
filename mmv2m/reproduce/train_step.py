"""How fast a config trains on this GPU: a few of the Runner's steps on made-up data."""

import gc
from collections.abc import Callable, Generator
from itertools import repeat

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from .made_batch import make_batch
from .runner_steps import made_loader, now, run_steps

__all__ = ['WARM_UP_STEPS', 'Throughput', 'training_throughput']

WARM_UP_STEPS = 8
"""Kernels are compiled in the first of them; CUDA graphs are captured in the fourth."""
LEAST_STEPS = 5


class Throughput:
    """Images a second of a config's training step, one measurement for each batch.

    The step is the one that tools/train.py makes, with the config's hooks. Data loading and
    communication between GPUs are not part of it.

    Args:
        cfg: The config; its weights are not loaded, since they make no difference here.
        size: H and W of the images.
        device: Where the images are.
        seconds: How long a measurement lasts at least.
    """

    def __init__(
        self, cfg: Config, size: tuple[int, int], device: str = 'cuda', seconds: float = 1.5
    ) -> None:
        self.cfg, self.size, self.device, self.seconds = cfg, size, device, seconds

    def measure(self, batch_size: int) -> float:
        """Images a second at a batch size.

        Raises:
            torch.OutOfMemoryError: If the batch is too large.
        """
        batch = make_batch(self.cfg, self.size, batch_size, self.device)
        speed = batch_size * run_steps(self.cfg, self._steps_per_second, made_loader([batch]))
        gc.collect()  # a runner and its parts know each other
        return speed

    def _steps_per_second(self, runner: Runner) -> Generator[None, None, float]:
        yield from repeat(None, WARM_UP_STEPS)
        started, steps = now(), 0
        while steps == 0 or now() - started < self.seconds:
            # Only their ends are waited for: a step begins while the GPU has work of the last one.
            yield from repeat(None, LEAST_STEPS)
            steps += LEAST_STEPS
        return steps / (now() - started)


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
        gc.collect()
        torch.cuda.empty_cache()
        batch_size //= 2
    return None
