"""The cost of a full training on one or several GPUs like this one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmengine.config import Config

from mmv2m.engine.errors import UserError

from .placement import place, total_images
from .train_step import training_throughput

__all__ = ['GPU_COUNTS', 'Estimate', 'estimate_training']

GPU_COUNTS = (1, 8, 64)


@dataclass(frozen=True)
class Estimate:
    """A training on a number of GPUs.

    Attributes:
        gpus: Number of GPUs.
        batch_size: Images that go through one GPU at once.
        images_per_second: Images per second that one GPU trains with.
        gpu_hours: Hours of all GPUs together.
        problem: Why there are no figures, if there are none.
    """

    gpus: int
    batch_size: int | None = None
    images_per_second: float | None = None
    gpu_hours: float | None = None
    problem: str = ''

    @property
    def hours(self) -> float | None:
        """Hours from the start of the training to its end."""
        return None if self.gpu_hours is None else self.gpu_hours / self.gpus


def estimate_training(
    cfg: Config,
    train_images: int,
    throughput: Callable[[int], float],
    gpu_counts: Sequence[int] = GPU_COUNTS,
) -> list[Estimate]:
    """Estimate a training by the recipe's batch, spread over each number of GPUs.

    The estimate assumes that the GPUs wait neither for data nor for each other, so that it is a
    lower bound. More GPUs have smaller shares of the batch, and each of them is less busy.

    Args:
        cfg: The config.
        train_images: Images in one epoch.
        throughput: Function that measures one GPU's images per second at a batch size.
        gpu_counts: Numbers of GPUs.
    """
    measured: dict[int, tuple[int, float] | None] = {}
    estimates = []
    for gpus in gpu_counts:
        try:
            batch_size = place(cfg, gpus).batch_size
        except UserError as error:
            estimates.append(Estimate(gpus, problem=str(error)))
            continue
        if batch_size not in measured:
            measured[batch_size] = training_throughput(throughput, batch_size)
        found = measured[batch_size]
        if found is None:
            estimates.append(Estimate(gpus, problem='one image does not fit into memory'))
            continue
        fitting, speed = found
        hours = total_images(cfg, train_images) / speed / 3600
        estimates.append(Estimate(gpus, fitting, speed, hours))
    return estimates
