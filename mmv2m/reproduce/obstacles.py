"""Obstacles to a run on this machine, found without running anything."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.device import get_device

from mmv2m.engine.errors import UserError
from mmv2m.engine.preflight.backend import check_backend
from mmv2m.engine.preflight.data import check_data
from mmv2m.engine.preflight.environment import check_environment, check_precision
from mmv2m.engine.preflight.model import check_model

__all__ = ['Obstacle', 'find_obstacles']


@dataclass(frozen=True)
class Obstacle:
    """Something missing.

    Attributes:
        kind: A word or two for a table.
        message: One line that says what is missing and what would be right.
    """

    kind: str
    message: str


def find_obstacles(cfg: Config, *, training: bool, cpu: bool, gpus: int = 1) -> list[Obstacle]:
    """Find everything that is missing for a run of a config.

    Args:
        cfg: The config.
        training: Whether the config is trained; otherwise it is only tested.
        cpu: Whether a training makes sense without a GPU.
        gpus: Number of GPUs of the run.
    """
    cfg = cfg.copy()
    cfg.launcher = cfg.get('launcher', 'none')
    splits = ('train', 'val', 'test') if training else ('test',)
    checks: dict[str, Callable[[], None]] = {
        'library missing': lambda: check_environment(cfg),
        'model wrong': lambda: check_model(cfg),
        'backend missing': lambda: check_backend(cfg),
        'data missing': lambda: check_data(cfg, splits),
    }
    obstacles = []
    for kind, check in checks.items():
        try:
            check()
        except UserError as error:
            obstacles.append(Obstacle(kind, str(error)))
            if kind == 'library missing':  # nothing else can be looked up
                return obstacles
    if training and get_device() == 'cpu':
        obstacles += _without_gpu(cfg, cpu)
    elif 0 < torch.cuda.device_count() < gpus:
        there = torch.cuda.device_count()
        obstacles.append(Obstacle('too few GPUs', f'{gpus} are asked for, but there are {there}'))
    return obstacles


def _without_gpu(cfg: Config, cpu: bool) -> list[Obstacle]:
    if not cpu:
        return [Obstacle('no GPU', 'PyTorch finds no GPU, without which the training takes weeks')]
    try:
        check_precision(cfg)
    except UserError as error:
        return [Obstacle('no GPU', str(error))]
    return []
