"""The config of a run, from a config file and a command line."""

import os.path as osp
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device

from mmv2m.packages import DISTRIBUTIONS, how_to_install, missing_library

from .errors import UserError
from .home_folder import expand_home
from .preflight.files import check_config_file
from .resuming import latest_checkpoint
from .task_library import TaskLibrary
from .top_level import check_top_level

__all__ = ['apply_test_args', 'apply_train_args', 'load_config', 'resolve_resume', 'switch_amp']


def load_config(path: str, options: dict | None = None) -> Config:
    """Load a config, import what its ``custom_imports`` names, and merge options into it.

    Args:
        path: Config file.
        options: Dotted keys and values of ``--cfg-options``.

    Raises:
        UserError: If the file does not exist or cannot be loaded, the library of a base config is
            missing, an import fails, or an option does not fit.
    """
    check_config_file(path)
    try:
        cfg = Config.fromfile(path)
    except ImportError as error:
        raise UserError(f'{path}: {_import_problem(_innermost(error))}') from error
    except Exception as error:
        # A config is a program, so that any error that it raises is a mistake of the config.
        raise UserError(f'{path} cannot be loaded: {type(error).__name__}: {error}') from error
    try:
        cfg.merge_from_dict(options or {})
    except AttributeError as error:  # mmengine raises it for a list of anything but dicts
        raise UserError(
            f'--cfg-options does not fit {path}: a key goes on below a number or a word of a list; '
            'give the whole list, as in key="[a,b]"'
        ) from error
    except (AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f'--cfg-options does not fit {path}: {error}') from error
    check_top_level(cfg, options or ())
    expand_home(cfg)
    return cfg


def apply_train_args(cfg: Config, args: Namespace, library: TaskLibrary) -> None:
    """Merge the command line of tools/train.py into a config, in place.

    Args:
        cfg: The config, with ``--cfg-options`` merged.
        args: The arguments, from :func:`.cli.parse_train_args`.
        library: The conventions of the config's task library.

    Raises:
        UserError: If an argument asks for something that the config does not support.
    """
    _apply_common_args(cfg, args)
    for name in ('train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(name) is None:
            raise UserError(f'the config has no {name}: there is nothing to train')
    if args.no_validate:
        cfg.update(dict(val_cfg=None, val_dataloader=None, val_evaluator=None))
        checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        checkpoint.pop('save_best', None)
    if args.amp is not None:
        switch_amp(cfg, args.amp)
    resolve_resume(cfg, args.resume)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(
                '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config'
            )
        cfg.auto_scale_lr.enable = True
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        _complete_dataloader(cfg, name, args, library)


def resolve_resume(cfg: Config, checkpoint: str | None) -> None:
    """Name the checkpoint that a run resumes, in place.

    Without a checkpoint, the run starts as the config says, with its ``load_from``.

    Args:
        cfg: The config, with its ``work_dir``.
        checkpoint: The command line's choice: a path, ``'auto'`` for the newest checkpoint of the
            work dir, or None for the config's own choice.
    """
    if checkpoint not in (None, 'auto'):
        cfg.update(dict(resume=True, load_from=checkpoint))
    elif checkpoint == 'auto' or (cfg.get('resume') and not cfg.get('load_from')):
        found = latest_checkpoint(cfg.work_dir)
        cfg.resume = found is not None
        cfg.load_from = found or cfg.get('load_from')


def apply_test_args(cfg: Config, args: Namespace, library: TaskLibrary) -> None:
    """Merge the command line of tools/test.py into a config, in place.

    Args:
        cfg: The config, with ``--cfg-options`` merged.
        args: The arguments, from :func:`.cli.parse_test_args`.
        library: The conventions of the config's task library.

    Raises:
        UserError: If an argument asks for something that the config does not support.
    """
    _apply_common_args(cfg, args)
    cfg.load_from = args.checkpoint
    for name in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        if cfg.get(name) is None:
            raise UserError(f'the config has no {name}: there is nothing to test')
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir:
        library.enable_visualization(cfg, args)
    if args.tta:
        library.enable_tta(cfg)
    if args.out and args.out_item != 'metrics':
        library.dump_predictions(cfg, args.out)
    elif args.out and not args.out.endswith(('.json', '.yaml', '.yml', '.pkl')):
        raise UserError(f'--out {args.out}: metrics go to a .json, .yaml or .pkl file')
    if args.out:
        _prepare_out(args.out)
    _complete_dataloader(cfg, 'test_dataloader', args, library)


def _prepare_out(out: str) -> None:
    """Make the folder of ``--out`` now, since the libraries make it only after the last image."""
    path = Path(out)
    try:
        (path.parent if path.suffix else path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--out {out}: its folder cannot be made: {error}') from error


def _apply_common_args(cfg: Config, args: Namespace) -> None:
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = osp.expanduser(args.work_dir)
    elif not cfg.get('work_dir'):
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])


def switch_amp(cfg: Config, on: bool) -> None:
    """Switch mixed precision on or off, in place, as ``--amp`` and ``--no-amp`` do.

    Raises:
        UserError: If the config's optimizer wrapper is neither mmengine's plain nor its mixed one.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    name = kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__
    if name not in ('OptimWrapper', 'AmpOptimWrapper'):
        option = '--amp' if on else '--no-amp'
        raise UserError(f'{option} works with optim_wrapper.type OptimWrapper, not {name}')
    if on:
        wrapper.type = 'AmpOptimWrapper'
        # bfloat16 has the range of float32, so that losses need no scaling.
        scaled = str(wrapper.get('dtype')).removeprefix('torch.') != 'bfloat16'
        wrapper.setdefault('loss_scale', 'dynamic' if scaled else dict(enabled=False))
        return
    wrapper.type = 'OptimWrapper'
    for setting in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(setting, None)


def _complete_dataloader(cfg: Config, name: str, args: Namespace, library: TaskLibrary) -> None:
    """Add the library's defaults to a dataloader, except those that cannot be used here."""
    if cfg.get(name) is None:
        return
    loader = ConfigDict({**library.dataloader_defaults, **cfg[name]})
    if args.no_pin_memory or get_device() == 'cpu':
        loader.pin_memory = False
    # PyTorch refuses persistent workers where there are no workers.
    if getattr(args, 'no_persistent_workers', False) or not loader.get('num_workers'):
        loader.persistent_workers = False
    cfg[name] = loader


def _import_problem(error: BaseException) -> str:
    library = missing_library(str(error))
    if library is None:
        return _base_problem(str(error)) or f'custom_imports fail: {error}'
    return f'the config needs {library}, which is not installed: {how_to_install(library)}'


def _base_problem(message: str) -> str | None:
    """Say why mmengine does not find a base config of an installed library, or return None."""
    for library, (maintained, original) in DISTRIBUTIONS.items():
        spec = find_spec(library)
        if message.startswith(f'{original} is not installed, please') and spec is not None:
            folder = osp.join((spec.submodule_search_locations or [''])[0], '.mim', 'configs')
            return (
                f"a _base_ with '{library}::' cannot be found: mmengine looks for a package named "
                f'{original}, and {library} is installed as {maintained}; write the path of the '
                f'file instead, which is below {folder}/'
            )
    return None


def _innermost(error: BaseException) -> BaseException:
    """The first error of a chain of errors."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
