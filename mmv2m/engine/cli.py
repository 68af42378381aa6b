"""The command lines of tools/train.py and tools/test.py."""

import os
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction

from .errors import UserError

__all__ = ['OptionsAction', 'parse_test_args', 'parse_train_args']


class OptionsAction(DictAction):
    """``key=value`` pairs as mmengine reads them, with a clear error for wrong ones."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the pairs to the namespace.

        Raises:
            UserError: If a pair cannot be read.
        """
        for value in values:
            if '=' not in value:
                raise UserError(
                    f'--cfg-options takes key=value pairs without spaces, not {value!r}'
                )
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, ValueError) as error:
            raise UserError(f'--cfg-options {" ".join(values)}: {error}') from error
        except RecursionError as error:  # mmengine raises it for a dict
            raise UserError(
                f'--cfg-options {" ".join(values)}: a value is a number, a word, or a list or '
                'tuple of such values; a dict belongs into the config file'
            ) from error


def parse_train_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the command line of tools/train.py.

    Args:
        argv: The arguments. None means the command line of the process.

    Raises:
        UserError: If ``--cfg-options`` cannot be read.
    """
    parser = ArgumentParser(description='Train a model of mmpretrain, mmdet or mmseg')
    parser.add_argument('config', help='config file')
    _add_common_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint; without a path, from the latest one in the work dir',
    )
    parser.add_argument(
        '--amp',
        action=BooleanOptionalAction,
        help='train with automatic mixed precision, or without it whatever the config says',
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='do not evaluate during the training'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the actual batch size over the config's "
        'auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='restart the data loading workers every epoch',
    )
    return _parse(parser, argv)


def parse_test_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the command line of tools/test.py.

    Args:
        argv: The arguments. None means the command line of the process.

    Raises:
        UserError: If ``--cfg-options`` cannot be read, or ``--out-item`` comes without ``--out``.
    """
    parser = ArgumentParser(description='Test a model of mmpretrain, mmdet or mmseg')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    _add_common_arguments(parser)
    parser.add_argument(
        '--out',
        help='write the predictions to this .pkl file (mmpretrain, mmdet) or folder (mmseg)',
    )
    parser.add_argument(
        '--out-item',
        choices=['pred', 'metrics'],
        help='what --out writes: the predictions (default), or the metrics as .json, .yaml or .pkl',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='save the painted predictions to this folder')
    parser.add_argument(
        '--interval', type=int, help='paint every n-th image (mmpretrain only; default: 1)'
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds that --show shows an image (default: 2)'
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--amp', action='store_true', help='test with automatic mixed precision (fp16)'
    )
    args = _parse(parser, argv)
    if args.out_item and not args.out:
        raise UserError('--out-item says what --out writes: give --out PATH too')
    return args


def _add_common_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        '--work-dir', help="folder for logs and results (default: the config's, or work_dirs/NAME)"
    )
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='do not pin memory in the data loaders'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='override settings of the config, such as train_cfg.max_epochs=10 or key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed run',
    )
    # Older launchers hand the rank over as an argument, in one of two spellings.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def _parse(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args
