"""Check how long a training is, and that what waits for validations gets some."""

from collections.abc import Iterator

from mmengine.config import Config

from ..errors import UserError
from .hooks import hooks
from .model import numbered
from .settings import check_counts, type_name

__all__ = ['check_loops']

LENGTHS = dict(EpochBasedTrainLoop='max_epochs', IterBasedTrainLoop='max_iters')


def check_loops(cfg: Config) -> None:
    """Check the loops of a training and the numbers that they count to.

    Args:
        cfg: The whole config.

    Raises:
        UserError: If a number is impossible, a loop lacks a part, or something waits for a
            validation that never comes.
    """
    loop = cfg.train_cfg
    if ('type' in loop) == ('by_epoch' in loop):
        raise UserError(
            'train_cfg needs one of by_epoch (True, or False for a training by iterations) and '
            f'type, but has {"both" if "type" in loop else "neither"}'
        )
    usual = 'EpochBasedTrainLoop' if loop.get('by_epoch') else 'IterBasedTrainLoop'
    length = LENGTHS.get(type_name(loop) if 'type' in loop else usual)
    if length and length not in loop:
        raise UserError(f'train_cfg needs {length}, the length of the training')
    check_counts('train_cfg', loop, max_epochs=1, max_iters=1, val_interval=1, val_begin=0)
    check_counts('optim_wrapper', cfg.optim_wrapper, accumulative_counts=1)
    begin = loop.get('val_begin', 1)
    if length and cfg.get('val_cfg') is not None and begin > loop[length]:
        raise UserError(
            f'train_cfg.val_begin is {begin}, but {length} is {loop[length]}, so that no '
            'validation would ever be made'
        )
    for split in ('val', 'test'):
        _check_whole(cfg, [f'{split}_{part}' for part in ('dataloader', 'cfg', 'evaluator')])
    if cfg.get('val_cfg') is None:
        for where in _waiting(cfg):
            raise UserError(
                f'{where} waits for validations, but the config has none: leave it out, or add '
                'val_dataloader, val_cfg and val_evaluator'
            )


def _check_whole(cfg: Config, names: list[str]) -> None:
    """Check that a config has all parts of a loop, or none."""
    lacking = [name for name in names if cfg.get(name) is None]
    if lacking and len(lacking) < len(names):
        present = [name for name in names if name not in lacking]
        raise UserError(
            f'the config has {" and ".join(present)}, but no {" and no ".join(lacking)}: give all '
            'three, or none'
        )


def _waiting(cfg: Config) -> Iterator[str]:
    """What does nothing before a validation."""
    for where, hook in hooks(cfg):
        if hook.get('save_best'):
            yield f'{where}.save_best'
        if type_name(hook) == 'EarlyStoppingHook':
            yield f'{where} (EarlyStoppingHook)'
    for where, scheduler in numbered(cfg.get('param_scheduler'), 'param_scheduler'):
        if type_name(scheduler).startswith('ReduceOnPlateau'):
            yield f'{where} ({type_name(scheduler)})'
