"""Models as AOTInductor packages: `python tools/benchmarks/aot_inductor.py --out FILE`.

Each model is exported with any batch size, compiled and packaged. Its outputs are compared with the
eager model's at each batch size, both here and in a process that imports mmv2m.ops and nothing else
of this repository. That process also checks that images of another size or dtype are refused. The
eager model, the same model as a CUDA graph, and the package are timed. If a package is wrong, the
script ends with an error after everything has been measured.
"""

import argparse
import faulthandler
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import machine  # noqa: F401 - this clone's code comes first
import torch
from cpu import cpu_name
from models import MODELS, Classifier, as_graph
from results import Results
from torch import Tensor, nn
from triton.testing import do_bench
from turns import Step, take_turns

from mmv2m.models import V2M

TINY = dict(embed_dims=16, depths=(1, 0, 0, 0), state_dims=2)
KINDS: dict[str, Callable[..., nn.Module]] = {
    **MODELS,
    'tiny': lambda size: Classifier(V2M, TINY, img_size=size, patch_size=8, out_indices=0),
}
TOLERANCE = dict(float32=1e-4, bfloat16=3e-2)
"""The largest relative error of the outputs that is allowed, in the norm, for each precision."""

CONFIGS: dict[str, Any] = {
    # Where inputs are checked, batches of 0 and 1 would be refused.
    'aot_inductor.check_lowerbound': False,
    # Some compilers link libstdc++ statically. With two of them in the process, loading crashes.
    'aot_inductor.custom_op_libs': [':libstdc++.so.6'],
    # Beside a convolution of PyTorch's, Inductor copies maps into another memory format otherwise.
    'layout_optimization': False,
}
"""The settings with which Inductor compiles the packages."""

IN_A_FRESH_PROCESS = """
import os, sys
os.environ['AOTI_RUNTIME_CHECK_INPUTS'] = '1'
import torch, mmv2m.ops
run = torch._inductor.aoti_load_package('model.pt2')
images, expected = torch.load('example.pt')
error = (run(images).float() - expected.float()).norm() / expected.float().norm()
assert error <= float(sys.argv[1]), f'outputs differ by {error:.1e}'
for wrong in (images[..., 8:], images.double()):
    try:
        run(wrong)
    except RuntimeError:
        continue
    raise AssertionError('images of another size or dtype are not refused')
assert not {'mmengine', 'mmcv', 'mmpretrain', 'mmv2m.models'} & set(sys.modules)
"""


def autocast(args: argparse.Namespace) -> torch.autocast:
    """Return the autocast context of the chosen precision; for float32 it is disabled."""
    return torch.autocast(args.device, torch.bfloat16, enabled=args.precision == 'bfloat16')


def make_package(model: nn.Module, images: Tensor, path: Path, args: argparse.Namespace) -> None:
    """Export a model with any batch size, and compile it."""
    with torch.no_grad(), autocast(args):
        shapes = ({0: torch.export.Dim('batch')},)
        program = torch.export.export(model, (images,), dynamic_shapes=shapes)
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(path),
            inductor_configs=CONFIGS,
        )


def run_elsewhere(folder: Path, images: Tensor, expected: Tensor, tolerance: float) -> str:
    """Run the package in a process that has only mmv2m.ops; return what went wrong, or ''."""
    torch.save((images, expected), folder / 'example.pt')
    path = f'import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})'
    command = [sys.executable, '-c', path + IN_A_FRESH_PROCESS, str(tolerance)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return '' if done.returncode == 0 else (done.stderr.splitlines() or ['no reason'])[-1]


def relative_error(result: Tensor, expected: Tensor) -> float:
    """Return the relative error in the norm of all outputs; it is infinite if one is not finite."""
    error = (result.float() - expected.float()).norm() / expected.float().norm()
    return error.item() if error.isfinite() else float('inf')


def eager(model: nn.Module, images: Tensor, args: argparse.Namespace) -> Tensor:
    """Compute a model's outputs for a batch."""
    with torch.inference_mode(), autocast(args):
        return model(images)


def milliseconds(steps: Mapping[str, Step], args: argparse.Namespace) -> dict[str, float]:
    """Return the median time of each step in milliseconds."""
    if args.device == 'cuda':
        measure = partial(do_bench, warmup=300, rep=800, return_mode='median')
        return {name: measure(step) for name, step in steps.items()}
    return {name: median(turns) for name, turns in take_turns(steps, args.rounds).items()}


def measure(name: str, folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the measurements of one model, one for each batch size."""
    torch.manual_seed(0)
    model = KINDS[name](size=args.size).eval().to(args.device)
    draw = partial(torch.randn, device=args.device)
    batches = [draw(count, 3, args.size, args.size) for count in args.batches]
    started, path = time.perf_counter(), folder / 'model.pt2'
    make_package(model, draw(2, 3, args.size, args.size), path, args)
    facts = dict(
        model=name,
        package_seconds=time.perf_counter() - started,
        package_megabytes=path.stat().st_size / 1e6,
        parameters=sum(p.numel() for p in model.parameters()),
    )
    print(f'{name}: packaged in {facts["package_seconds"]:.0f} s', flush=True)
    package = torch._inductor.aoti_load_package(str(path))
    found = []
    for images in batches:
        steps: dict[str, Step] = dict(eager=partial(eager, model, images, args))
        expected, tolerance = steps['eager'](), TOLERANCE[args.precision]
        checks = dict(
            relative_error=relative_error(package(images), expected),
            error_elsewhere=run_elsewhere(folder, images, expected, tolerance),
        )
        if args.device == 'cuda':
            steps['graph'] = as_graph(steps['eager'])
        steps['package'] = partial(package, images)
        times = {f'{form}_ms': one for form, one in milliseconds(steps, args).items()}
        found.append(dict(facts, batch=len(images), **checks, **times))
    return found


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--models', nargs='+', default=['V2M-T', 'V2M-S*'], choices=list(KINDS))
    parser.add_argument('--size', type=int, default=224, help='height and width of the images')
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 64])
    parser.add_argument('--precision', choices=list(TOLERANCE), default='bfloat16')
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda')
    parser.add_argument('--rounds', type=int, default=20, help='rounds of timing on a CPU')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print it."""
    faulthandler.enable()  # a crash inside a compiled package then names the line that called it
    args = parse_args(argv)
    device = cpu_name() if args.device == 'cpu' else None
    results = Results(args.out, device, precision=args.precision, size=args.size)
    for name in args.models:
        with TemporaryDirectory() as folder:
            for one in measure(name, Path(folder), args):
                results.append(one)
                print('  '.join(f'{key} {value}' for key, value in one.items()), flush=True)
    for one in results:
        if not one['relative_error'] <= TOLERANCE[args.precision] or one['error_elsewhere']:
            sys.exit(
                f'error: a package is not right, see relative_error and error_elsewhere: {one}'
            )


if __name__ == '__main__':
    main()
