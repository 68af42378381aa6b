"""What a full training costs on this GPU, on one or several of them."""

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
        gpus: How many.
        batch_size: Images that go through one of them at once.
        images_per_second: Of one of them.
        gpu_hours: Of all of them together.
        problem: Why there are no figures, where there are none.
    """

    gpus: int
    batch_size: int | None = None
    images_per_second: float | None = None
    gpu_hours: float | None = None
    problem: str = ''

    @property
    def hours(self) -> float | None:
        """From start to end."""
        return None if self.gpu_hours is None else self.gpu_hours / self.gpus


def estimate_training(
    cfg: Config,
    train_images: int,
    throughput: Callable[[int], float],
    gpu_counts: Sequence[int] = GPU_COUNTS,
) -> list[Estimate]:
    """Estimate a training by the recipe's batch, spread over each number of GPUs.

    The GPUs are taken to wait neither for data nor for each other, which is the least that a
    training can take. More GPUs are less busy each, as far as their share of the batch is small.

    Args:
        cfg: The config.
        train_images: Images an epoch sees.
        throughput: Measures one GPU's images a second at a batch size.
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
