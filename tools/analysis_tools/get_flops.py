"""Print a model's parameters and FLOPs: `python tools/analysis_tools/get_flops.py CONFIG`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

from mmv2m.engine.errors import UserError, exit_on_user_error  # noqa: E402
from mmv2m.reproduce.report import measure_row, row_config  # noqa: E402
from mmv2m.utils.complexity import COUNTING_RULES, image_channels, usual_size  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, count, and print the figures.

    Args:
        argv: The arguments. None means the command line of the process.
    """
    parser = argparse.ArgumentParser(description="Print a model's parameters and FLOPs")
    parser.add_argument('config', help='config file, of mmpretrain, mmdet or mmseg')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help='side of the image, or its height and width; default: what the config is for, which '
        'is 800 x 1280 for a detector',
    )
    args = parser.parse_args(argv)
    if args.shape and len(args.shape) > 2:
        parser.error('--shape H W')
    with exit_on_user_error():
        if args.shape and min(args.shape) < 1:
            height, width = (args.shape * 2)[:2]
            raise UserError(f'--shape must be positive, but is {height} x {width}')
        cfg = row_config(Path(args.config))
        if cfg.get('model') is None:
            raise UserError('the config has no model')
        height, width = (args.shape * 2)[:2] if args.shape else usual_size(cfg)
        cost = measure_row(Path(args.config), (height, width))
    given = '' if args.shape else " (the config's; --shape H W takes another)"
    print(f'config  {args.config}')
    print(f'input   {image_channels(cfg)} x {height} x {width}{given}')
    print(f'params  {_count(cost.params, "M", 1e6)}')
    for rule, meaning in COUNTING_RULES.items():
        print(f'FLOPs   {_count(cost.flops[rule], "G", 1e9)}  {rule}: {meaning}')


def _count(number: int, unit: str, size: float) -> str:
    """Format a number in its usual unit, or in the next smaller one if it is too small for it."""
    smaller = dict(G='M', M='K')
    if number < size / 10:
        unit, size = smaller[unit], size / 1000
    return f'{number / size:.3f} {unit}'


if __name__ == '__main__':
    main()
