"""Draw a backbone's effective receptive field: `python erf.py CONFIG [CHECKPOINT]`.

The picture shows how much each pixel changes the middle of the last feature map. Without a
checkpoint, it shows the model as a training starts; with one, it shows both models side by side.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

from mmv2m.engine.config import load_config  # noqa: E402
from mmv2m.engine.errors import UserError, exit_on_user_error  # noqa: E402
from mmv2m.engine.task_library import task_library_of  # noqa: E402
from mmv2m.visualization import (  # noqa: E402
    draw_heat_maps,
    effective_receptive_field,
    side_holding,
)
from mmv2m.visualization.inputs import (  # noqa: E402
    build_backbone,
    height_and_width,
    prepare_picture,
    read_images,
)

SHARES = (0.5, 0.99)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or ``argv``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a classifier, detector or segmentor')
    parser.add_argument('checkpoint', nargs='?', help='its weights')
    parser.add_argument('--images', nargs='+', default=[], help='image files; default: noise')
    parser.add_argument(
        '--size', type=int, nargs='+', default=[224], help='H and W, or one for both; default: 224'
    )
    parser.add_argument('--out', default='erf.png', help='the picture; default: %(default)s')
    parser.add_argument('--device', default='cpu')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the picture of the model in the command line."""
    args = parse_args(argv)
    with exit_on_user_error():
        try:
            draw(args)
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(str(error)) from error


def draw(args: argparse.Namespace) -> None:
    """Draw the picture, and print how far the fields reach."""
    prepare_picture(args.out)
    cfg = load_config(args.config)
    task_library_of(cfg).prepare()
    images = read_images(cfg, args.images, height_and_width(args.size)).to(args.device)
    fields = {}
    for title, checkpoint in (('as a training starts', None), ('trained', args.checkpoint)):
        if title == 'trained' and checkpoint is None:
            continue
        backbone = build_backbone(cfg, checkpoint).to(args.device)
        fields[title] = effective_receptive_field(backbone, images)
        sides = (f'{share:.0%} in {side_holding(fields[title], share)}' for share in SHARES)
        print(f'{title}: {", ".join(sides)} pixels around the middle')
    draw_heat_maps(list(fields.values()), list(fields), args.out)
    print(args.out)


if __name__ == '__main__':
    main()
