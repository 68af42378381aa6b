"""The runner of a config."""

import os

import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmv2m.utils.checkpoints import read_checkpoints_safely

from .hooks import MonitorHook, RandomStateHook, ResumeGroupsHook, SafeCheckpointHook
from .resuming import resumable_loop

__all__ = ['build_runner']


def build_runner(cfg: Config) -> Runner:
    """Build the config's runner: mmengine's, or the one that ``runner_type`` names.

    The runner differs from mmengine's in these points:

    - Distributed runs work without an accelerator. mmengine asks for a CUDA device with every
      backend.
    - A resumed training goes on as if it had not been interrupted (:class:`.RandomStateHook`,
      :class:`.SafeCheckpointHook`), also from checkpoints with other groups of parameters
      (:class:`.ResumeGroupsHook`).
    - A metric that is monitored and that the validation does not give ends the training
      (:class:`.MonitorHook`).
    - No checkpoint that it reads runs code (:func:`.read_checkpoints_safely`).
    """
    read_checkpoints_safely()
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        _prepare_cpu_processes(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(ResumeGroupsHook())
    runner.register_hook(MonitorHook())
    _make_resumable(runner)
    return runner


def _make_resumable(runner: Runner) -> None:
    # The config is saved with the checkpoints, and names mmengine's classes there.
    runner._train_loop = resumable_loop(runner._train_loop)
    if not any(isinstance(hook, RandomStateHook) for hook in runner.hooks):
        runner.register_hook(RandomStateHook())
    for hook in runner.hooks:
        if type(hook) is CheckpointHook:
            hook.__class__ = SafeCheckpointHook


def _prepare_cpu_processes(cfg: Config) -> None:
    if not torch_dist.is_initialized():
        torch_dist.init_process_group(
            cfg.env_cfg.dist_cfg.backend,
            rank=int(os.environ['RANK']),
            world_size=int(os.environ['WORLD_SIZE']),
        )
    # mmengine adds a device id where none is given. PyTorch refuses it for a module on the CPU.
    if cfg.get('model_wrapper_cfg') is None:
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
