"""Checks of a run's config before anything is built."""

from pathlib import Path

from mmengine.config import Config

from .backend import check_backend
from .data import check_data
from .environment import check_environment, check_precision
from .files import check_checkpoint, is_remote
from .hooks import check_hooks
from .keys import check_keys
from .loops import check_loops
from .model import check_model
from .optimizer import check_optimizer
from .outputs import check_outputs
from .preprocessor import check_preprocessor
from .schedule import check_schedule
from .weights import check_incoming, check_weights
from .windows import check_windows

__all__ = ['check_test', 'check_train']


def check_train(cfg: Config) -> None:
    """Check what tools/train.py is going to build and read.

    Args:
        cfg: The config, the command line merged into it.

    Raises:
        UserError: With the first mistake found.
    """
    check_environment(cfg)
    check_model(cfg)
    check_preprocessor(cfg)
    check_outputs(cfg)
    check_windows(cfg)
    check_backend(cfg)
    check_keys(cfg, ('train', 'val'))
    check_hooks(cfg)
    check_loops(cfg)
    check_schedule(cfg)
    check_optimizer(cfg)
    check_data(cfg, ('train', 'val'))
    # DeepSpeed's checkpoints, which are folders, are resumed only.
    if cfg.get('load_from') and not (cfg.get('resume') and Path(cfg.load_from).is_dir()):
        check_checkpoint(cfg.load_from, 'checkpoint')
    check_incoming(cfg)
    # Last: what is missing from the disk has to be said on any machine.
    check_precision(cfg)


def check_test(cfg: Config) -> None:
    """Check what tools/test.py is going to build and read.

    Args:
        cfg: The config, the command line merged into it.

    Raises:
        UserError: With the first mistake found.
    """
    check_checkpoint(cfg.load_from, 'checkpoint')
    check_environment(cfg)
    check_model(cfg)
    check_preprocessor(cfg)
    check_outputs(cfg)
    check_windows(cfg)
    check_backend(cfg)
    check_keys(cfg, ('test',))
    check_hooks(cfg)
    check_data(cfg, ('test',))
    if not is_remote(cfg.load_from):
        check_weights(cfg, cfg.load_from)
