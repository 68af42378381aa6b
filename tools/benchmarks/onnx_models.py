"""Backbones as ONNX on the CPU: `python tools/benchmarks/onnx_models.py --out FILE`.

For each one: nodes of the graph, size of the file, the difference from PyTorch at several batch
sizes, and milliseconds an image in onnxruntime and in PyTorch, one image at a time. With `--int8`
also what onnxruntime's dynamic quantisation of the weights of products makes of size, time and
outputs.
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
import numpy as np
import onnxruntime
import torch
from results import Results

from mmv2m.deployment import export_onnx
from mmv2m.models import V2M, EfficientVMamba, LocalVim, PlainMamba, Vim, VMamba
from mmv2m.ops import choose_backend

MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    'V2M-S*': lambda: V2M('pyramid-small'),
    'V2M-T': lambda: V2M('tiny'),
    'V2M-T + local': lambda: V2M('local-tiny'),
    'Vim-T': lambda: Vim('tiny'),
    'LocalVim-T': lambda: LocalVim('tiny'),
    'VMamba-T': lambda: VMamba('tiny'),
    'PlainMamba-L1': lambda: PlainMamba('L1'),
    'EfficientVMamba-T': lambda: EfficientVMamba('tiny'),
}


def milliseconds(step: Callable[[], Any], runs: int) -> float:
    """The median of some runs, after one that does not count."""
    step()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - started))
    return median(times)


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """The file in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])


def measure(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One model's measurements."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    image = torch.randn(1, 3, args.side, args.side)
    started = time.perf_counter()
    made = export_onnx(model, (args.side, args.side), folder / 'model.onnx', {})
    found = dict(
        model=name,
        parameters=sum(p.numel() for p in model.parameters()),
        nodes=made.nodes,
        megabytes=made.path.stat().st_size / 1e6,
        difference=made.difference,
        export_seconds=time.perf_counter() - started,
    )
    feed = dict(images=image.numpy())
    session = open_session(made.path, args.threads)
    found['onnxruntime_ms'] = milliseconds(lambda: session.run(None, feed), args.runs)
    with torch.inference_mode():
        found['pytorch_ms'] = milliseconds(lambda: model(image), args.runs)
    found['load_average'] = os.getloadavg()[0]
    if args.int8:
        found.update(quantised(made.path, session.run(None, feed), feed, args))
    return found


def quantised(path: Path, outputs: list, feed: dict, args: argparse.Namespace) -> dict[str, Any]:
    """Size, time and relative error of the outputs with 8-bit weights and products."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_name('int8.onnx')
    quantize_dynamic(
        path, small, weight_type=QuantType.QInt8, op_types_to_quantize=['MatMul', 'Gemm']
    )
    session = open_session(small, args.threads)
    error = max(
        np.linalg.norm(a - b) / np.linalg.norm(a)
        for a, b in zip(outputs, session.run(None, feed), strict=True)
    )
    return dict(
        int8_megabytes=small.stat().st_size / 1e6,
        int8_ms=milliseconds(lambda: session.run(None, feed), args.runs),
        int8_relative_error=float(error),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line says, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', choices=MODELS, default=list(MODELS))
    parser.add_argument('--side', type=int, default=224, help='of the images, in pixels')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--runs', type=int, default=20)
    parser.add_argument('--int8', action='store_true', help='quantise, too')
    parser.add_argument('--out', help='write the results to this JSON file')
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    versions = dict(onnxruntime=onnxruntime.__version__, threads=args.threads, side=args.side)
    backend = choose_backend('auto', torch.empty(1, 1, 1, 1))
    results = Results(args.out, 'CPU', backend=backend, **versions)
    for name in args.models:
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
