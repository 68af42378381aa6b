"""Draw what one token sees from each corner: `python corner_views.py CONFIG [CHECKPOINT]`.

The picture has one map for each corner from which a block of a V2M scans. The map shows how much
each token changes the output of the corner's 2D scan at the marked token.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

import torch  # noqa: E402

from mmv2m.engine.config import load_config  # noqa: E402
from mmv2m.engine.errors import UserError, exit_on_user_error  # noqa: E402
from mmv2m.engine.task_library import task_library_of  # noqa: E402
from mmv2m.visualization import corner_views, draw_heat_maps  # noqa: E402
from mmv2m.visualization.inputs import (  # noqa: E402
    build_backbone,
    height_and_width,
    prepare_picture,
    read_images,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or ``argv``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a classifier, detector or segmentor with a V2M')
    parser.add_argument('checkpoint', nargs='?', help='its weights; default: as a training starts')
    parser.add_argument('--image', help='image file; default: noise')
    parser.add_argument(
        '--size', type=int, nargs='+', default=[224], help='H and W, or one for both; default: 224'
    )
    parser.add_argument('--layer', help="a block's mixer, stages.I.K.mixer; default: the last one")
    parser.add_argument(
        '--token',
        type=int,
        nargs=2,
        metavar=('ROW', 'COLUMN'),
        help='marked token; default: the middle',
    )
    parser.add_argument(
        '--out', default='corner_views.png', help='the picture; default: %(default)s'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the picture of the model in the command line."""
    args = parse_args(argv)
    torch.manual_seed(0)
    with exit_on_user_error():
        try:
            draw(args)
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(str(error)) from error


def draw(args: argparse.Namespace) -> None:
    """Draw the picture."""
    prepare_picture(args.out)
    cfg = load_config(args.config)
    task_library_of(cfg).prepare()
    paths = [args.image] if args.image else []
    images = read_images(cfg, paths, height_and_width(args.size))[:1]
    token = tuple(args.token) if args.token else None
    views = corner_views(build_backbone(cfg, args.checkpoint), images, args.layer, token)
    height, width = views[0].weight.shape
    titles = [f'{v.corner}: first {v.first}, then {v.second}' for v in views]
    dot = token or (height // 2, width // 2)
    draw_heat_maps([v.weight for v in views], titles, args.out, dot)
    print(f'{height} x {width} tokens, the one at {dot[0]}, {dot[1]}: {args.out}')


if __name__ == '__main__':
    main()
