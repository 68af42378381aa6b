"""Convert an official checkpoint of another model: `python official_to_mmv2m.py MODEL SRC DST`.

The result loads into the config that takes the checkpoint, such as
configs/baselines/vim-t_8xb128_in1k.py; docs/pretrained.md names it.
"""

import argparse
import sys
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

from mmv2m.engine.conversion import convert_file  # noqa: E402
from mmv2m.engine.errors import UserError  # noqa: E402
from mmv2m.utils import CONVERTERS  # noqa: E402


def main() -> None:
    """Parse the command line, convert the checkpoint, and save it."""
    parser = argparse.ArgumentParser(description="Convert an official checkpoint's format")
    parser.add_argument('model', choices=CONVERTERS, help='family of models')
    parser.add_argument('src', help='checkpoint of the official code')
    parser.add_argument('dst', help='where the converted checkpoint goes')
    parser.add_argument('--entry', help="entry of the checkpoint to take, such as 'model_ema'")
    args = parser.parse_args()
    try:
        count = convert_file(args.model, args.src, args.dst, args.entry)
    except UserError as error:
        sys.exit(f'error: {" ".join(str(error).split())}')
    print(f'{count} tensors written to {args.dst}')


if __name__ == '__main__':
    main()
