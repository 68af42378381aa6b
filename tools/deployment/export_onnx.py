"""Make an ONNX file of a trained model: `python export_onnx.py CONFIG CHECKPOINT`.

A classifier becomes a function from normalised images to logits. The backbone and the neck of any
model can be exported instead. The file says how to prepare images, and names the classes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

from mmengine.config import Config  # noqa: E402

from mmv2m.deployment import (  # noqa: E402
    INSTALL,
    PARTS,
    Exported,
    build_model,
    describe,
    export_onnx,
    image_size,
    loaded_channels,
    missing_packages,
    part_of,
)
from mmv2m.engine.config import load_config  # noqa: E402
from mmv2m.engine.errors import UserError, exit_on_user_error  # noqa: E402
from mmv2m.engine.task_library import task_library_of  # noqa: E402


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or ``argv``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of mmpretrain, mmdet or mmseg')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('--out', help="the file; default: the checkpoint's name with .onnx")
    parser.add_argument(
        '--part',
        choices=PARTS,
        default=PARTS[0],
        help='the whole classifier (default), or the backbone with its neck',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help="side of the images in pixels, or height and width; default: the config's, or 224",
    )
    args = parser.parse_args(argv)
    if args.shape and len(args.shape) > 2:
        parser.error('--shape takes one number or two')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Export the model of the command line."""
    args = parse_args(argv)
    with exit_on_user_error():
        missing = missing_packages()
        if missing:
            raise UserError(f'{", ".join(missing)} not found: exporting to ONNX needs {INSTALL}')
        cfg = load_config(args.config)
        task_library_of(cfg).prepare()
        if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
            raise UserError(f'checkpoint {args.checkpoint} does not exist')
        try:
            made = export(cfg, args)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(str(error)) from error
    report(made)


def export(cfg: Config, args: argparse.Namespace) -> Exported:
    """Build the model, load its weights, and export it."""
    height, width = (args.shape * 2)[:2] if args.shape else image_size(cfg)
    if min(height, width) < 1:
        raise UserError(f'--shape must be positive, but is {args.shape}')
    out = Path(args.out or Path(args.checkpoint).with_suffix('.onnx').name)
    if out.suffix != '.onnx' or out.is_dir():
        raise UserError(f'--out {out}: the model goes to a file with the suffix .onnx')
    model, classes = build_model(cfg, args.checkpoint)
    about = describe(model, loaded_channels(cfg), classes)
    return export_onnx(part_of(model, args.part), (height, width), out, about)


def report(made: Exported) -> None:
    """Print what has been made."""
    for kind, values in (('input', made.inputs), ('output', made.outputs)):
        for name, shape in values.items():
            print(f'{kind:8}{name} ({", ".join(map(str, shape))}), float32')
    print(f'nodes   {made.nodes}')
    print(f'checked in onnxruntime: differs by {made.difference:.1e} from PyTorch')
    print(f'file    {made.path} ({made.path.stat().st_size / 1e6:.2f} MB)')


if __name__ == '__main__':
    main()
