"""The speed of a config's training on this GPU, from a few steps on made-up data."""

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
"""Steps before a measurement. The first compiles kernels, and the fourth captures CUDA graphs."""
LEAST_STEPS = 5


class Throughput:
    """Images per second of a config's training step, with one measurement for each batch size.

    The step is that of tools/train.py, with the config's hooks. Data loading and communication
    between GPUs are not part of it.

    Args:
        cfg: The config. Its weights are not loaded, because they do not change the speed.
        size: H and W of the images.
        device: Device of the images.
        seconds: Shortest duration of a measurement, in seconds.
    """

    def __init__(
        self, cfg: Config, size: tuple[int, int], device: str = 'cuda', seconds: float = 1.5
    ) -> None:
        self.cfg, self.size, self.device, self.seconds = cfg, size, device, seconds

    def measure(self, batch_size: int) -> float:
        """Return the images per second at a batch size.

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
            # Only the end of all steps is waited for. A step begins while the GPU still has work.
            yield from repeat(None, LEAST_STEPS)
            steps += LEAST_STEPS
        return steps / (now() - started)


def training_throughput(
    throughput: Callable[[int], float], batch_size: int
) -> tuple[int, float] | None:
    """Halve batches until one fits; return it and its images per second.

    Args:
        throughput: Function that measures a batch size, such as :meth:`Throughput.measure`.
        batch_size: The largest batch size to try.

    Returns:
        The batch size and its images per second, or None if not even one image fits.
    """
    while batch_size:
        try:
            return batch_size, throughput(batch_size)
        except torch.OutOfMemoryError:
            pass
        # The error keeps activations alive, and is only released here.
        gc.collect()
        torch.cuda.empty_cache()
        batch_size //= 2
    return None
