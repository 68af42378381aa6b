"""Building the runner of a config."""

import os

import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmv2m.utils.checkpoints import read_checkpoints_safely

from .hooks import ResumeGroupsHook

__all__ = ['build_runner']


def build_runner(cfg: Config) -> Runner:
    """Build the config's runner: mmengine's, or the one that ``runner_type`` names.

    Distributed runs on a machine without an accelerator work too, which mmengine alone does not
    offer: it asks for a CUDA device whatever the backend. Checkpoints with other groups of
    parameters resume, see :class:`.ResumeGroupsHook`. No checkpoint that it reads runs code, see
    :func:`.read_checkpoints_safely`.
    """
    read_checkpoints_safely()
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        _prepare_cpu_processes(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(ResumeGroupsHook())
    return runner


def _prepare_cpu_processes(cfg: Config) -> None:
    if not torch_dist.is_initialized():
        torch_dist.init_process_group(
            cfg.env_cfg.dist_cfg.backend,
            rank=int(os.environ['RANK']),
            world_size=int(os.environ['WORLD_SIZE']),
        )
    # mmengine adds a device id where none is given, which PyTorch refuses for a module on the CPU.
    if cfg.get('model_wrapper_cfg') is None:
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
