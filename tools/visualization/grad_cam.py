"""Draw what a classifier looks at: `python grad_cam.py CONFIG CHECKPOINT IMAGE`.

The picture shows the image, and the image under its class activation map (Grad-CAM).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

import numpy as np  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.dataset import Compose, default_collate  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmpretrain.apis import get_model  # noqa: E402
from PIL import Image  # noqa: E402

from mmv2m.engine.config import load_config  # noqa: E402
from mmv2m.engine.errors import UserError, exit_on_user_error  # noqa: E402
from mmv2m.engine.task_library import task_library_of  # noqa: E402
from mmv2m.visualization import activation_map, overlay  # noqa: E402
from mmv2m.visualization.inputs import prepare_picture  # noqa: E402

SIDE = 448
"""The least number of pixels on the longer side of a shown image."""

FAILURES = (AssertionError, ImportError, OSError, RuntimeError, TypeError, ValueError)
"""What libraries raise at wrong files, weights, devices and names."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or ``argv``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a classifier')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('image', help='image file')
    parser.add_argument('--layer', help='module of the backbone; default: the last stage')
    parser.add_argument('--category', type=int, help='class; default: the predicted one')
    parser.add_argument('--out', default='grad_cam.png', help='the picture; default: %(default)s')
    parser.add_argument('--device', default='cpu')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the picture of the model and image in the command line."""
    args = parse_args(argv)
    with exit_on_user_error():
        cfg = load_config(args.config)
        task_library_of(cfg).prepare()
        if not isinstance(cfg.model.get('head'), dict):
            raise UserError(f'{args.config} is no config of a classifier: its model has no head')
        if not Path(args.image).is_file():
            raise UserError(f'image {args.image} does not exist')
        try:
            prepare_picture(args.out)
            shown, category = draw(cfg, args)
        except FAILURES as error:
            raise UserError(str(error)) from error
    Image.fromarray(shown).save(args.out)
    print(f'class {category}: {args.out}')


def draw(cfg: Config, args: argparse.Namespace) -> tuple[np.ndarray, int]:
    """Return the picture, which has the image and the image under its map, and the class."""
    model = get_model(cfg, pretrained=args.checkpoint, device=args.device).eval()
    pipeline = list(cfg.test_dataloader.dataset.pipeline)
    if pipeline[0]['type'] != 'LoadImageFromFile':
        pipeline.insert(0, dict(type='LoadImageFromFile'))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmpretrain')):
        data = default_collate([Compose(pipeline)(dict(img_path=args.image))])
    images = model.data_preprocessor(data)['inputs']
    found, category = activation_map(model, images, args.layer, args.category)
    pixels = enlarge(data['inputs'][0].numpy().transpose(1, 2, 0)[..., ::-1])
    return np.concatenate([pixels, overlay(pixels, found)], axis=1), category


def enlarge(pixels: np.ndarray) -> np.ndarray:
    """Enlarge a small image, so that each pixel becomes a square."""
    times = max(1, SIDE // max(pixels.shape[:2]))
    return np.ascontiguousarray(pixels.repeat(times, 0).repeat(times, 1))


if __name__ == '__main__':
    main()
