"""Our dense backbones beside the official ones: `python tools/benchmarks/official_dense.py`.

Official backbones of detectors and segmentors run on a CPU from clones of their repositories (see
official_dense_code.py), as the official configs have them, with random weights. Our backbones are
built from our configs, and load the same weights as from a checkpoint. The script prints the worst
relative error of every output over the images, and fails if one is above 1e-4. Agreement shows that
our configs read the official checkpoints correctly.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

TOLERANCE = 1e-4
SQUARE = ((512, 512),)
"""The only (H, W) that the official Vim takes as its configs build it. LocalVim's code also needs
square maps, because it puts scans along columns back as if maps were square.
"""


@dataclass(frozen=True)
class Case:
    """A backbone in one of our configs and in an official config.

    Attributes:
        ours: The config, in ``configs/``.
        theirs: The official config, in the clone.
        sizes: (H, W) of the images.
        changed: Values that replace settings of the official config.
    """

    ours: str
    theirs: str
    sizes: tuple[tuple[int, int], ...] = ((224, 224), (160, 224))
    changed: Mapping[str, Any] = field(default_factory=dict)


UPERNET = 'upernet_{}_8xb2-160k_ade20k-512x512.py'
VMAMBA = 'segmentation/configs/vssm1/upernet_vssm_4xb4-160k_ade20k-512x512_{}.py'
VIM = 'seg/configs/vim/upernet/upernet_vim_{}_24_512_slide_60k.py'
LOCAL = 'segmentation/configs/local_mamba/upernet_local_vim-{}_8xb2-160k_ade20k-512x512.py'
PLAIN = 'downstream/mmsegmentation/plain_mamba_seg_configs/{}_upernet.py'
ADAPTER = 'downstream/mmdetection/plain_mamba_det_configs/maskrcnn/{}_maskrcnn_1x.py'

CASES = {
    'VMamba-T': Case(
        f'baselines/{UPERNET.format("vmamba-t")}',
        VMAMBA.format('tiny'),
        ((224, 224), (160, 224), (98, 130)),
    ),
    'VMamba-T-s2l5': Case(f'pretrained/{UPERNET.format("vmamba-t-s2l5")}', VMAMBA.format('tiny1')),
    'VMamba-S': Case(f'baselines/{UPERNET.format("vmamba-s")}', VMAMBA.format('small')),
    'VMamba-B': Case(f'pretrained/{UPERNET.format("vmamba-b")}', VMAMBA.format('base')),
    'Vim-T': Case(f'baselines/{UPERNET.format("vim-t")}', VIM.format('tiny'), SQUARE),
    # The official config of Vim-S builds another Vim than its classifier: it has rotary positions,
    # a class token, and scans that are added up. So the config of Vim-T is taken at Vim-S's width.
    'Vim-S': Case(
        f'baselines/{UPERNET.format("vim-s")}', VIM.format('tiny'), SQUARE, dict(embed_dim=384)
    ),
    'LocalVim-T': Case(
        f'baselines/{UPERNET.format("local-vim-t")}',
        LOCAL.format('tiny'),
        (*SQUARE, (192, 192)),
    ),
    'LocalVim-S': Case(f'baselines/{UPERNET.format("local-vim-s")}', LOCAL.format('small'), SQUARE),
    **{
        f'PlainMamba-{arch.upper()}': Case(
            f'pretrained/{UPERNET.format(f"plain-mamba-{arch}")}', PLAIN.format(arch)
        )
        for arch in ('l1', 'l2', 'l3')
    },
    **{
        f'PlainMamba-Adapter-{arch.upper()}': Case(
            f'pretrained/mask-rcnn_plain-mamba-{arch}_1x_coco.py', ADAPTER.format(arch)
        )
        for arch in ('l1', 'l2', 'l3')
    },
}
"""Every backbone whose detectors or segmentors are published, and the backbones of Vim's and
LocalVim's UPerNet configs. Configs of one backbone agree in its settings.
"""

REPOSITORIES = {'Vim': 'Vim', 'Loc': 'LocalMamba', 'VMa': 'VMamba', 'Pla': 'PlainMamba'}


def build(name: str, clones: Path) -> tuple[nn.Module, nn.Module]:
    """Build the official backbone, and ours with a neck if the official one contains it.

    Args:
        name: A key of :data:`CASES`.
        clones: The folder of the clones.
    """
    ours = build_ours(name)  # the official code replaces mmseg's modules by its own
    import official_dense_code

    case, repository = CASES[name], REPOSITORIES[name[:3]]
    clone = (clones / repository).resolve()
    config = Config.fromfile(clone / case.theirs, import_custom_modules=False)
    settings = {**config.model.backbone, **case.changed}
    return official_dense_code.BACKBONES[repository](clone, settings), ours


def build_ours(name: str) -> nn.Module:
    """Build our backbone from its config, and the neck if it makes four scales of the maps."""
    import mmseg.models  # noqa: F401
    from mmseg.registry import MODELS

    import mmv2m.models  # noqa: F401

    model = Config.fromfile(ROOT / 'configs' / CASES[name].ours, import_custom_modules=False).model
    backbone = MODELS.build(dict(model.backbone, type=f'mmv2m.{model.backbone.type}'))
    if model.get('neck', {}).get('type') != 'Feature2Pyramid':
        return backbone
    return nn.ModuleDict(dict(backbone=backbone, neck=MODELS.build(model.neck)))


def scatter(model: nn.Module) -> None:
    """Change every parameter and every statistic, so that each affects the outputs."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith('running_var'):
                value.uniform_(0.5, 2)
            elif value.is_floating_point() and not name.startswith('rope.'):
                value.add_(torch.randn_like(value), alpha=0.02)


def load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load official weights with the names of a detector's or segmentor's checkpoint."""
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
    """Return the maps that a head gets."""
    if isinstance(model, nn.ModuleDict):
        return list(model['neck'](model['backbone'](x)))
    found = model(x)
    return list(found[1] if isinstance(found[0], Tensor) and len(found) == 2 else found)


def compare(name: str, clones: Path) -> list[float]:
    """Return the worst relative error of each output."""
    torch.manual_seed(0)
    theirs, ours = (model.eval() for model in build(name, clones))
    scatter(theirs)
    load(ours, theirs.state_dict())
    worst = [0.0] * 4
    for size in CASES[name].sizes:
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            pairs = zip(outputs(ours, x), outputs(theirs, x), strict=True)
            errors = [((a - b).norm() / b.norm()).item() for a, b in pairs]
        worst = [max(pair) for pair in zip(worst, errors, strict=True)]
    return worst


def main(argv: Sequence[str] | None = None) -> int:
    """Compare the cases of the command line, and print the errors.

    Returns:
        The exit status: 1 if an output differs.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', default=list(CASES), choices=list(CASES))
    parser.add_argument('--clones', type=Path, default=Path('..'), help='folder of the clones')
    args = parser.parse_args(argv)
    if len(args.models) > 1:  # only one family fits into a process
        command = [sys.executable, __file__, '--clones', str(args.clones), '--models']
        return max([subprocess.run([*command, name]).returncode for name in args.models])
    (name,) = args.models
    errors = compare(name, args.clones)
    print(f'{name:22}relative errors ' + ', '.join(f'{error:.1e}' for error in errors))
    return int(not all(error < TOLERANCE for error in errors))


if __name__ == '__main__':
    sys.exit(main())
