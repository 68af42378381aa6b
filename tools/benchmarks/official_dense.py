"""Our dense backbones beside the official ones: `python tools/benchmarks/official_dense.py`.

Official backbones of detectors and segmentors run on a CPU from clones of their repositories (see
official_dense_code.py), with random weights; ours take those as they are, as from a checkpoint.
Prints the worst relative error of every output over several image sizes; fails if one is above
1e-4. It says how the settings have to be that take official dense checkpoints.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

TOLERANCE = 1e-4
SIZES = {
    'VMamba-T': [(224, 224), (160, 224), (98, 130)],
    'VMamba-S': [(128, 128)],
    'Vim-T': [(256, 256)],
    'LocalVim-T': [(256, 256), (192, 192)],
    'PlainMamba-L1': [(224, 224), (160, 240)],
    'PlainMamba-L2': [(160, 160)],
    'PlainMamba-Adapter-L1': [(224, 224), (160, 256)],
    'PlainMamba-Adapter-L3': [(160, 160)],
}
"""(H, W) of the images. The official Vim takes those alone that it is built for; LocalVim's puts
scans along columns back as if maps were square.
"""

REPOSITORIES = {'Vim': 'Vim', 'Loc': 'LocalMamba', 'VMa': 'VMamba', 'Pla': 'PlainMamba'}


def build(name: str, clone: Path) -> tuple[nn.Module, nn.Module]:
    """The official backbone, and ours with a neck if the official one has that inside."""
    # The official code brings its own modules in the place of mmdet's and mmseg's: ours come first.
    from mmseg.models.necks import Feature2Pyramid

    import mmv2m.models as ours
    from mmv2m.models.layers import LOCAL_SCANS

    dense: Any = dict(out_type='featmap', out_indices=(0, 1, 2, 3))
    import official_dense_code as official

    if name == 'VMamba-T':
        return official.vmamba(clone, 96, (2, 2, 8, 2), 1.0), ours.VMamba('tiny', **dense)
    if name == 'VMamba-S':
        return official.vmamba(clone, 96, (2, 2, 15, 2), 2.0), ours.VMamba('small', **dense)
    if name == 'Vim-T':
        settings = dict(class_token='mean', out_features='mixer', img_size=256)
        model = nn.ModuleDict(
            dict(
                backbone=ours.Vim('tiny', **settings, **dense),
                neck=Feature2Pyramid(192, [4, 2, 1, 0.5], dict(type='BN')),
            )
        )
        return official.vim(clone, 192, 256), model
    if name == 'LocalVim-T':
        settings = dict(out_features='mixer', norm_cfg=dict(type='LN'), img_size=256)
        theirs = official.local_vim(clone, 192, 256, LOCAL_SCANS['tiny'])
        return theirs, ours.LocalVim('tiny', **settings, **dense)
    arch, adapter = name.rpartition('-')[2], 'Adapter' in name
    if adapter:
        return official.plain_mamba(clone, arch, True), ours.PlainMambaAdapter(arch)
    return official.plain_mamba(clone, arch), ours.PlainMamba(arch, **dense)


def scatter(model: nn.Module) -> None:
    """Move every parameter and every statistic, so that each counts."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith('running_var'):
                value.uniform_(0.5, 2)
            elif value.is_floating_point() and not name.startswith('rope.'):
                value.add_(torch.randn_like(value), alpha=0.02)


def load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load official weights as a checkpoint of a detector or segmentor has them."""
    from mmv2m.utils.official_weights import convert_official_weights, recognise

    named = {f'backbone.{key}': value for key, value in weights.items()}
    family = recognise(named)
    if family is None:
        raise ValueError('the weights are not recognised')
    found = convert_official_weights(family, named)
    if not isinstance(model, nn.ModuleDict):
        found = {key.removeprefix('backbone.'): value for key, value in found.items()}
    model.load_state_dict(found, strict=True)


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The maps that a head gets."""
    if isinstance(model, nn.ModuleDict):
        return list(model['neck'](model['backbone'](x)))
    found = model(x)
    return list(found[1] if isinstance(found[0], Tensor) and len(found) == 2 else found)


def compare(name: str, clone: Path) -> list[float]:
    """The worst relative error of each output."""
    torch.manual_seed(0)
    theirs, ours = (model.eval() for model in build(name, clone))
    scatter(theirs)
    load(ours, theirs.state_dict())
    worst = [0.0] * 4
    for size in SIZES[name]:
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            pairs = zip(outputs(ours, x), outputs(theirs, x), strict=True)
            errors = [((a - b).norm() / b.norm()).item() for a, b in pairs]
        worst = [max(pair) for pair in zip(worst, errors, strict=True)]
    return worst


def main(argv: Sequence[str] | None = None) -> int:
    """Compare what the command line says, print.

    Returns:
        The exit status: 1 if an output differs.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', default=list(SIZES), choices=list(SIZES))
    parser.add_argument('--clones', type=Path, default=Path('..'), help='folder of the clones')
    args = parser.parse_args(argv)
    if len(args.models) > 1:  # one family fits into a process
        command = [sys.executable, __file__, '--clones', str(args.clones), '--models']
        return max([subprocess.run([*command, name]).returncode for name in args.models])
    (name,) = args.models
    errors = compare(name, (args.clones / REPOSITORIES[name[:3]]).resolve())
    print(f'{name:22}relative errors ' + ', '.join(f'{error:.1e}' for error in errors))
    return int(not all(error < TOLERANCE for error in errors))


if __name__ == '__main__':
    sys.exit(main())
