"""The layout of a recipe's batch over GPUs, and the number of images of a training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mmengine.config import Config

from mmv2m.engine.errors import UserError

__all__ = ['Placement', 'global_batch', 'place', 'total_images']


class Placement(NamedTuple):
    """A recipe's batch on one of several GPUs.

    Attributes:
        batch_size: Images that go through the model at once.
        accumulate: How many such batches make a step of the optimizer.
    """

    batch_size: int
    accumulate: int

    def options(self, cfg: Config) -> dict[str, int]:
        """The changes of the config, by dotted key."""
        settings = {
            'train_dataloader.batch_size': (self.batch_size, cfg.train_dataloader.batch_size),
            'optim_wrapper.accumulative_counts': (self.accumulate, _accumulated(cfg)),
        }
        return {key: new for key, (new, old) in settings.items() if new != old}


def global_batch(cfg: Config) -> int:
    """Images in a step of the optimizer, by the recipe.

    This is ``auto_scale_lr.base_batch_size``, or else the batch of one GPU with this config.
    """
    base = cfg.get('auto_scale_lr', {}).get('base_batch_size')
    return base or cfg.train_dataloader.batch_size * _accumulated(cfg)


def place(cfg: Config, gpus: int) -> Placement:
    """Lay the recipe's batch out over GPUs without a change of the recipe.

    A share of a GPU may be larger than the config's own batch. It is then split into batches of
    that size, whose gradients are summed. Schedules that count iterations would become longer in
    this way, so their configs take the whole share at once.

    Args:
        cfg: The config.
        gpus: Number of GPUs.

    Raises:
        UserError: If the batch does not divide.
    """
    whole, own = global_batch(cfg), cfg.train_dataloader.batch_size
    if whole % gpus:
        raise UserError(f"the recipe's batch of {whole} does not divide over {gpus} GPUs")
    share = whole // gpus
    if share <= own or share % own or _counts_iterations(cfg):
        return Placement(share, 1)
    return Placement(own, share // own)


def total_images(cfg: Config, train_images: int) -> int:
    """Number of images of a whole training, with repetitions.

    Args:
        cfg: The config.
        train_images: Images in one epoch.
    """
    if _by_iterations(cfg):
        return cfg.train_cfg.max_iters * global_batch(cfg)
    return cfg.train_cfg.max_epochs * train_images


def _accumulated(cfg: Config) -> int:
    return cfg.optim_wrapper.get('accumulative_counts', 1)


def _by_iterations(cfg: Config) -> bool:
    return 'max_iters' in cfg.train_cfg


def _counts_iterations(cfg: Config) -> bool:
    schedulers: Any = cfg.get('param_scheduler') or []
    schedulers = [schedulers] if isinstance(schedulers, Mapping) else schedulers
    return _by_iterations(cfg) or any(not s.get('by_epoch', True) for s in schedulers)
