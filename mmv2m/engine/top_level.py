"""A check for names at the top level of a config that nothing reads."""

import ast
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmv2m.utils.suggestions import did_you_mean

from .errors import UserError

__all__ = ['check_top_level']

READ = {
    *inspect.signature(Runner.__init__).parameters,
    *('runner_type', 'compile', 'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg'),
    *('activation_checkpointing', 'efficient_conv_bn_eval', 'strategy', 'seed'),
    *('tta_model', 'tta_pipeline', 'data_hint', 'custom_imports'),
} - {'self', 'cfg'}
"""Names that mmengine's runner or mmv2m's tools read."""

INSTEAD = dict(
    max_epochs='train_cfg.max_epochs',
    max_iters='train_cfg.max_iters',
    val_interval='train_cfg.val_interval',
    total_epochs='train_cfg.max_epochs',
    optimizer='optim_wrapper.optimizer',
    optimizer_config='optim_wrapper.clip_grad',
    lr='optim_wrapper.optimizer.lr',
    lr_config='param_scheduler',
    batch_size='train_dataloader.batch_size',
    num_workers='train_dataloader.num_workers',
    data='train_dataloader',
    data_root='train_dataloader.dataset.data_root',
    train_pipeline='train_dataloader.dataset.pipeline',
    test_pipeline='test_dataloader.dataset.pipeline',
    evaluation='val_evaluator',
    runner='train_cfg',
    checkpoint_config='default_hooks.checkpoint',
    log_config='default_hooks.logger',
    num_classes='model.head.num_classes',
    vis_backends='visualizer.vis_backends',
    custom_imports='custom_imports in the config file',
)
"""The right places of settings that are often expected at the top level."""


def check_top_level(cfg: Config, options: Iterable[str] = ()) -> None:
    """Refuse settings at the top level that nothing reads.

    A config file may have names of its own there, which it uses further down. Three kinds of names
    are refused. An option of the command line that sets such a name comes too late, since the file
    has used it already. So does a name in the file that replaces a name of a base config. The third
    kind are names that resemble the name of a setting.

    Args:
        cfg: The config.
        options: Dotted keys of ``--cfg-options``.

    Raises:
        UserError: If a name is refused. The message says which setting would be read instead.
    """
    if cfg.get('runner_type') or cfg.get('strategy'):
        return  # such a runner may read other names too
    for option in options:
        name = option.split('.')[0]
        if name not in READ - {'custom_imports'}:  # imports happen when the file is read
            raise UserError(f'--cfg-options {option} would change nothing: {_instead(option)}')
    file = Path(cfg.filename or '')
    if file.suffix != '.py' or not file.is_file() or '.mim' in file.parts:
        return  # a user cannot correct the configs of libraries
    assigned, used = _names(file.read_text())
    based = _names_of_bases(cfg) if assigned else set()
    for name in assigned:
        if name in READ or name in used or name.startswith('_') or name not in cfg:
            continue
        if name in based or _nearly_read(name, cfg[name]):
            raise UserError(f'{file}: nothing reads {name}: {_instead(name)}')


def _nearly_read(name: str, value: Any) -> bool:
    # Pipelines have names of their own in configs, also in files that a tool has written.
    helper = name in INSTEAD or name.endswith('_pipeline') or not isinstance(value, (dict, list))
    return not helper and bool(did_you_mean(name, READ, cutoff=0.85))


def _instead(option: str) -> str:
    name, _, rest = option.partition('.')
    if name in INSTEAD:
        setting = INSTEAD[name]
        return f'the setting is {setting}.{rest}' if rest else f'the setting is {setting}'
    near = did_you_mean(name, READ)
    return f'nothing reads {name!r} at the top level of a config{near}'


def _names(text: str) -> tuple[list[str], set[str]]:
    """Names that a config assigns at its top level, and names that it uses."""
    tree = ast.parse(text)
    assigned = [
        name.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    ]
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return assigned, used


def _names_of_bases(cfg: Config) -> set[str]:
    found: set[str] = set()
    filename: Any = cfg.filename
    for base in Config._get_base_files(filename):
        try:
            path = Config._get_cfg_path(base, filename)[0]
            found |= Config.fromfile(path, import_custom_modules=False).keys()
        except Exception:
            continue  # the config itself could be loaded, so this error does not matter here
    return found
