"""A classifier with 8-bit weights on the CPU: `python tools/benchmarks/int8.py --out FILE`.

PyTorch and onnxruntime each have a dynamic quantisation, which makes the weights of linear layers
8-bit integers, and quantises their inputs at each call. This script measures both beside the
float32 model on the test images of its config: size, accuracy, the relative error of the logits,
and milliseconds per image, one image at a time, in turns. `int8` leaves the mixers' output
projections in float32, and `int8, all` does not. The default is the model that `make demo` trains.
With `--arch`, the model is the backbone of a V2M with random weights and random images, and no
accuracy is measured.
"""

import argparse
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import machine  # noqa: F401 - this clone's code comes first
import onnxruntime
import torch
from cpu import cpu_name
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from onnx_sessions import open_session, quantise
from results import Results
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from turns import take_turns

from mmv2m.deployment import build_model, export_onnx, image_size, part_of
from mmv2m.engine.config import load_config
from mmv2m.engine.errors import UserError, exit_on_user_error
from mmv2m.engine.task_library import task_library_of
from mmv2m.models import V2M
from mmv2m.models.layers.out_projection import OutProjection

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/v2m-mini_digits.py'
CHECKPOINT = ROOT / 'work_dirs/v2m-mini_digits/epoch_20.pth'
Logits = Callable[[Tensor], Tensor]


class Variant:
    """One form of the model: its size, and its function from images (B, 3, H, W) to logits."""

    def __init__(self, megabytes: float, logits: Logits) -> None:
        self.megabytes, self.logits = megabytes, logits


class FirstOutput(nn.Module):
    """A backbone that returns its first output only."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (B, 3, H, W) into the backbone's first output."""
        return self.backbone(images)[0]


def in_torch(model: nn.Module) -> Variant:
    """Return the form of a PyTorch module, whose size is the size of its saved weights."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return Variant(file.tell() / 1e6, model)


def in_onnxruntime(path: Path, threads: int) -> Variant:
    """Return the form of an ONNX file."""
    session = open_session(path, threads)

    def logits(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, dict(images=images.numpy()))[0])

    return Variant(path.stat().st_size / 1e6, logits)


def variants(model: nn.Module, path: Path, threads: int) -> dict[str, Variant]:
    """Return the model in PyTorch and in onnxruntime, each in float32 and quantised.

    Args:
        model: The model in float32.
        path: The same model as an ONNX file.
        threads: Number of threads of onnxruntime.
    """
    kept = [m.weight for m in model.modules() if isinstance(m, OutProjection)]
    int8 = torch.ao.quantization.quantize_dynamic(deepcopy(model), {nn.Linear}, torch.qint8)
    return {
        'PyTorch, float32': in_torch(model),
        'PyTorch, int8': in_torch(int8),
        'onnxruntime, float32': in_onnxruntime(path, threads),
        'onnxruntime, int8': in_onnxruntime(quantise(path, kept), threads),
        'onnxruntime, int8, all': in_onnxruntime(quantise(path), threads),
    }


def real_batches(
    cfg: Any, model: nn.Module, images: int | None, batch: int | None
) -> Iterator[tuple]:
    """Return normalised test images, (B, 3, H, W), and their labels, (B,).

    The batch size is by default the config's. The images are spread evenly over the set, because
    sets are often in the order of their classes.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmpretrain')):
        loader = Runner.build_dataloader(cfg.test_dataloader)
    count = len(loader.dataset)
    images = min(images or count, count)
    spread = Subset(loader.dataset, [i * count // images for i in range(images)])
    for data in DataLoader(spread, batch or loader.batch_size, collate_fn=loader.collate_fn):
        data = model.data_preprocessor(data)
        yield data['inputs'], torch.cat([sample.gt_label for sample in data['data_samples']])


def score(forms: Mapping[str, Variant], batches: list[tuple]) -> dict[str, dict[str, float]]:
    """Return each form's accuracy in percent, if there are labels, and its error of the logits.

    Both are measured on the batches as they are, and on the images one by one.
    """
    apart = [pair for images, labels in batches for pair in _one_by_one(images, labels)]
    exact = torch.cat([forms['PyTorch, float32'].logits(images) for images, _ in batches])
    found: dict[str, dict[str, float]] = {name: {} for name in forms}
    for (name, form), (suffix, some) in product(
        forms.items(), {'': batches, '_one_by_one': apart}.items()
    ):
        logits = torch.cat([form.logits(images) for images, _ in some])
        found[name][f'relative_error{suffix}'] = ((logits - exact).norm() / exact.norm()).item()
        if some[0][1] is not None:
            hits = logits.argmax(1) == torch.cat([labels for _, labels in some])
            found[name][f'accuracy{suffix}'] = 100 * hits.double().mean().item()
    return found


def _one_by_one(images: Tensor, labels: Tensor | None) -> Iterator[tuple]:
    """Split batches into batches of one image and its label."""
    for i in range(len(images)):
        yield images[i : i + 1], None if labels is None else labels[i : i + 1]


def load(args: argparse.Namespace) -> tuple[nn.Module, tuple[int, int], list[tuple]]:
    """Return the model, the height and width of its images, and batches of images and labels."""
    if args.arch:
        torch.manual_seed(0)
        model = FirstOutput(V2M(args.arch)).eval()
        return model, (224, 224), [(torch.randn(4, 3, 224, 224), None)]
    if not Path(args.checkpoint).is_file():
        raise UserError(f'{args.checkpoint} does not exist: `make demo` makes the default one')
    cfg = load_config(args.config)
    task_library_of(cfg).prepare()
    model = build_model(cfg, args.checkpoint)[0].eval()
    batches = list(real_batches(cfg, model, args.images, args.batch))
    return part_of(model, 'model'), image_size(cfg), batches


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', default=str(CONFIG), help='config of a classifier')
    parser.add_argument('--checkpoint', default=str(CHECKPOINT), help='its weights')
    parser.add_argument('--arch', help='measure a random V2M at 224 x 224 instead, as `tiny`')
    parser.add_argument('--onnx', help='a file of the same model, instead of exporting it')
    parser.add_argument('--images', type=int, help='number of test images; default: all')
    parser.add_argument('--batch', type=int, help="batch size; default: the test set's")
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=20, help='rounds of timing')
    parser.add_argument('--out', help='write the results to this JSON file')
    args = parser.parse_args(argv)
    for name in ('images', 'batch'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} takes at least one')
    if args.arch and (args.images or args.batch):
        parser.error('--arch makes its own images: --images and --batch are for a test set')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    with exit_on_user_error(), TemporaryDirectory() as folder, torch.no_grad():
        model, size, batches = load(args)
        path = Path(folder) / 'model.onnx'
        if args.onnx:
            shutil.copy(args.onnx, path)
        else:
            export_onnx(model, size, path, {})
        forms = variants(model, path, args.threads)
        scores = score(forms, batches)
        image = batches[0][0][:1]
        steps = {name: lambda form=form: form.logits(image) for name, form in forms.items()}
        times = take_turns(steps, args.rounds)
    results = Results(
        args.out,
        cpu_name(),
        onnxruntime=onnxruntime.__version__,
        threads=args.threads,
        model=f'V2M {args.arch}, made weights' if args.arch else Path(args.config).stem,
        images=sum(len(images) for images, _ in batches),
        load_average=os.getloadavg()[0],
    )
    for name, form in forms.items():
        turns = dict(milliseconds=median(times[name]), fastest_milliseconds=min(times[name]))
        measured = dict(megabytes=form.megabytes, **turns, **scores[name])
        results.append(dict(form=name, **measured))
        print(f'{name:24}' + ''.join(f'{k} {v:.4g}  ' for k, v in measured.items()), flush=True)


if __name__ == '__main__':
    main()
