"""Checks of the machine, the installation and the way a run was started."""

import importlib.util
import os
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, RUNNERS

from mmv2m.packages import how_to_install
from mmv2m.registry import MODELS

from ..errors import UserError, did_you_mean
from .model import model_parts
from .registered import find_class, require_class

__all__ = ['check_environment', 'check_precision']

LAUNCHER_VARIABLES = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_LOCAL_RANK')


def check_environment(cfg: Config) -> None:
    """Check that this process can run what the config asks for.

    Args:
        cfg: The config, the command line merged into it.

    Raises:
        UserError: If the task library or a package that a part of the model needs is missing, or
            the launcher did not start this process or has no usable backend.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    if importlib.util.find_spec(scope) is None:
        raise UserError(
            f'the config is for {scope} (default_scope), which is not installed: '
            f'{how_to_install(scope)}'
        )
    if cfg.get('model') is not None:
        _check_packages(cfg)
    if isinstance(cfg.get('runner_type'), str):
        require_class(RUNNERS, scope, cfg.runner_type, 'runner_type')
    _check_compiler(cfg.get('compile'))
    variable = LAUNCHER_VARIABLES.get(cfg.launcher)
    if variable and variable not in os.environ:
        raise UserError(
            f'--launcher {cfg.launcher} is for processes that it started, but {variable} is not '
            'set: use tools/dist_*.sh or tools/slurm_*.sh, or leave --launcher out'
        )
    backend = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('backend', 'nccl')
    if cfg.launcher == 'pytorch' and get_device() == 'cpu' and backend == 'nccl':
        raise UserError(
            'the backend nccl needs GPUs; on the CPU add '
            '--cfg-options env_cfg.dist_cfg.backend=gloo'
        )


def _check_compiler(settings: Any) -> None:
    """Check the backend of torch.compile, which first looks for it in the first step."""
    backend = settings.get('backend') if isinstance(settings, dict) else None
    if isinstance(backend, str):
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            near = did_you_mean(backend, known) or f'; there are {", ".join(known)}'
            raise UserError(f'compile: torch.compile has no backend {backend!r}{near}')


def _check_packages(cfg: Config) -> None:
    """Check for the packages that mmpretrain's ``require`` marks parts of the model with."""
    for where, part, scope in model_parts(cfg):
        found = find_class(MODELS, scope, part['type'])
        try:
            getattr(getattr(found, '__init__', None), '_verify_require', lambda: None)()
        except ImportError as error:
            raise UserError(f'{where}: {error}') from error


def check_precision(cfg: Config) -> None:
    """Check that this machine can train in the precision that the config asks for.

    Args:
        cfg: The config, the command line merged into it.

    Raises:
        UserError: If mixed-precision training has no accelerator.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    kind = wrapper.get('type', 'OptimWrapper')
    found = find_class(OPTIM_WRAPPERS, cfg.get('default_scope') or 'mmengine', kind)
    amp = isinstance(found, type) and issubclass(found, AmpOptimWrapper)
    if amp and get_device() == 'cpu':
        raise UserError(
            'training with mixed precision (AmpOptimWrapper, --amp) needs a GPU; '
            '--no-amp trains without it'
        )
