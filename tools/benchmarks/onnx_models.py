"""Backbones as ONNX on the CPU: `python tools/benchmarks/onnx_models.py --out FILE`.

For each backbone, the script measures the nodes of the graph, the size of the file, the difference
from PyTorch at several batch sizes, and the milliseconds per image in onnxruntime and in PyTorch,
one image at a time. All models take turns. It notes the medians and the fastest turns; the fastest
say more where other programs run. With `--configs`, it measures the backbones and necks of configs
instead. The weights are random.
"""

import argparse
import json
import os
import sys
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
from turns import Step, take_turns

from mmv2m.deployment import build_model, export_onnx, image_size, part_of
from mmv2m.engine.config import load_config
from mmv2m.engine.task_library import task_library_of
from mmv2m.models import V2M, EfficientVMamba, LocalVim, PlainMamba, Vim, VMamba
from mmv2m.ops import choose_backend

MODELS: dict[str, Callable[[], nn.Module]] = {
    'V2M-S*': lambda: V2M('pyramid-small'),
    'V2M-T': lambda: V2M('tiny'),
    'V2M-T coupled': lambda: V2M('tiny', recurrence='coupled'),
    'V2M-T + local': lambda: V2M('local-tiny'),
    'Vim-T': lambda: Vim('tiny'),
    'LocalVim-T': lambda: LocalVim('tiny'),
    'VMamba-T': lambda: VMamba('tiny'),
    'PlainMamba-L1': lambda: PlainMamba('L1'),
    'EfficientVMamba-T': lambda: EfficientVMamba('tiny'),
}


def make(name: str) -> tuple[nn.Module, tuple[int, int]]:
    """Build a named model, or a config's backbone and neck; return it with its images' size."""
    torch.manual_seed(0)
    if name in MODELS:
        return MODELS[name]().eval(), (224, 224)
    cfg = load_config(name)
    task_library_of(cfg).prepare()
    return part_of(build_model(cfg)[0], 'backbone').eval(), image_size(cfg)


def exported(name: str, folder: Path, args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return a model's file and the facts of its export; export it if there is no file."""
    path = folder / f'{Path(name).stem}.onnx'
    notes = path.with_suffix('.json')
    if not notes.exists():
        model, size = make(name)
        height, width = (args.shape * 2)[:2] if args.shape else size
        started = time.perf_counter()
        made = export_onnx(model, (height, width), path, {})
        found = dict(
            model=path.stem,
            shape=[height, width],
            parameters=sum(p.numel() for p in model.parameters()),
            nodes=made.nodes,
            megabytes=path.stat().st_size / 1e6,
            difference=made.difference,
            export_seconds=time.perf_counter() - started,
        )
        notes.write_text(json.dumps(found))
    found = json.loads(notes.read_text())
    if args.shape and found['shape'] != (args.shape * 2)[:2]:
        sys.exit(f'error: {path} is of another shape: choose another --folder')
    return path, found


def one_image(name: str, path: Path, threads: int) -> dict[str, Step]:
    """Return the steps on one image: the file in onnxruntime, and the model in PyTorch."""
    model, session = make(name)[0], open_session(path, threads)
    image = torch.randn(1, 3, *session.get_inputs()[0].shape[2:])
    feed = dict(images=image.numpy())
    return dict(onnxruntime=lambda: session.run(None, feed), pytorch=lambda: model(image))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', choices=MODELS, default=list(MODELS))
    parser.add_argument('--configs', nargs='+', help='measure configs of any task instead')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help="side of the images in pixels, or height and width; default: the config's, or 224",
    )
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=20, help='rounds of timing; 0 for none')
    parser.add_argument('--folder', help='keep the files there, and export only missing ones')
    parser.add_argument('--out', help='write the results to this JSON file')
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    facts = dict(onnxruntime=onnxruntime.__version__, threads=args.threads)
    backend = choose_backend('auto', torch.empty(1, 1, 1, 1))
    results = Results(args.out, cpu_name(), backend=backend, **facts)
    steps = {}
    with TemporaryDirectory() as temporary, torch.no_grad():
        folder = Path(args.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(args.configs or args.models):
            path, found = exported(name, folder, args)
            results.append(found)
            print('  '.join(f'{key} {value}' for key, value in found.items()), flush=True)
            if args.rounds:
                both = one_image(name, path, args.threads)
                steps |= {(i, where): step for where, step in both.items()}
        for (i, where), turns in take_turns(steps, args.rounds).items():
            results[i] |= {f'{where}_ms': median(turns), f'{where}_fastest_ms': min(turns)}
            print(f'{results[i]["model"]:24}{where:12}{median(turns):9.1f} ms', flush=True)
    results.facts['load_average'] = os.getloadavg()[0]
    results.write()


if __name__ == '__main__':
    main()
