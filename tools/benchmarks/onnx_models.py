"""Backbones as ONNX on the CPU: `python tools/benchmarks/onnx_models.py --out FILE`.

For each one: nodes of the graph, size of the file, the difference from PyTorch at several batch
sizes, and milliseconds an image in onnxruntime and in PyTorch, one image at a time, in turns.
With `--configs`, it measures the backbones and necks of configs instead. Weights are made.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import machine  # noqa: F401 - this clone's code comes first
import onnxruntime
import torch
from cpu import cpu_name
from onnx_sessions import open_session
from results import Results
from torch import nn
from turns import take_turns

from mmv2m.deployment import build_model, export_onnx, image_size, part_of
from mmv2m.engine.config import load_config
from mmv2m.engine.task_library import task_library_of
from mmv2m.models import V2M, EfficientVMamba, LocalVim, PlainMamba, Vim, VMamba
from mmv2m.ops import choose_backend

MODELS: dict[str, Callable[[], nn.Module]] = {
    'V2M-S*': lambda: V2M('pyramid-small'),
    'V2M-T': lambda: V2M('tiny'),
    'V2M-T + local': lambda: V2M('local-tiny'),
    'Vim-T': lambda: Vim('tiny'),
    'LocalVim-T': lambda: LocalVim('tiny'),
    'VMamba-T': lambda: VMamba('tiny'),
    'PlainMamba-L1': lambda: PlainMamba('L1'),
    'EfficientVMamba-T': lambda: EfficientVMamba('tiny'),
}


def make(name: str) -> tuple[nn.Module, tuple[int, int]]:
    """A model by its name, or the backbone and neck of a config; and its images' height, width."""
    torch.manual_seed(0)
    if name in MODELS:
        return MODELS[name]().eval(), (224, 224)
    cfg = load_config(name)
    task_library_of(cfg).prepare()
    return part_of(build_model(cfg)[0], 'backbone').eval(), image_size(cfg)


def measure(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One model's measurements."""
    model, size = make(name)
    height, width = (args.shape * 2)[:2] if args.shape else size
    started = time.perf_counter()
    made = export_onnx(model, (height, width), folder / 'model.onnx', {})
    found = dict(
        model=Path(name).stem,
        shape=[height, width],
        parameters=sum(p.numel() for p in model.parameters()),
        nodes=made.nodes,
        megabytes=made.path.stat().st_size / 1e6,
        difference=made.difference,
        export_seconds=time.perf_counter() - started,
        load_average=os.getloadavg()[0],
    )
    if not args.rounds:
        return found
    image = torch.randn(1, 3, height, width)
    feed, session = dict(images=image.numpy()), open_session(made.path, args.threads)
    steps = dict(onnxruntime=lambda: session.run(None, feed), pytorch=lambda: model(image))
    with torch.inference_mode():
        times = take_turns(steps, args.rounds)
    return found | {f'{name}_ms': median(turns) for name, turns in times.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line says, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', choices=MODELS, default=list(MODELS))
    parser.add_argument('--configs', nargs='+', help='of any task, instead of models')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help="side of the images in pixels, or height and width; default: the config's, or 224",
    )
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=20, help='of timing; 0 for none')
    parser.add_argument('--out', help='write the results to this JSON file')
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    facts = dict(onnxruntime=onnxruntime.__version__, threads=args.threads)
    backend = choose_backend('auto', torch.empty(1, 1, 1, 1))
    results = Results(args.out, cpu_name(), backend=backend, **facts)
    for name in args.configs or args.models:
        with TemporaryDirectory() as folder:
            results.append(measure(name, Path(folder), args))
        print(
            '  '.join(
                f'{key} {value:.4g}' if isinstance(value, float) else f'{value}'
                for key, value in results[-1].items()
            ),
            flush=True,
        )


if __name__ == '__main__':
    main()
