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
from mmv2m.reproduce.report import measure_row  # noqa: E402
from mmv2m.utils.complexity import COUNTING_RULES  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, count, print.

    Args:
        argv: The arguments; None for those of the process.
    """
    parser = argparse.ArgumentParser(description="Print a model's parameters and FLOPs")
    parser.add_argument('config', help='config file, of mmpretrain, mmdet or mmseg')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[224, 224],
        help='side of the image, or its height and width; default: 224',
    )
    args = parser.parse_args(argv)
    height, width = (args.shape * 2)[:2] if len(args.shape) < 3 else parser.error('--shape H W')
    with exit_on_user_error():
        if height < 1 or width < 1:
            raise UserError(f'--shape must be positive, but is {height} x {width}')
        cost = measure_row(Path(args.config), (height, width))
    print(f'config  {args.config}')
    print(f'input   3 x {height} x {width}')
    print(f'params  {cost.params / 1e6:.3f} M')
    for rule, meaning in COUNTING_RULES.items():
        print(f'FLOPs   {cost.flops[rule] / 1e9:.3f} G  {rule}: {meaning}')


if __name__ == '__main__':
    main()
