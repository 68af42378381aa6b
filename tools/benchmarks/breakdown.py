"""Where a model's time goes: `python tools/benchmarks/breakdown.py --model V2M-T --training`.

The script measures how long each kernel keeps one GPU busy in a step of inference or training,
under bfloat16 autocast, and prints the longest kernels first. It also measures the host's own time
for a step, with two images, which leave the GPU idle. `--grids` tells apart the sizes that a kernel
is launched with, because the stages of a pyramid have different sizes.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from machine import gpu_name
from models import MODELS, forward, make_train_step
from profiled import kernels, kernels_by_grid
from results import Results


def host_milliseconds(step: Callable[[], Any], steps: int = 20) -> float:
    """Return the host's time in milliseconds for a step that the GPU does not delay."""
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps * 1e3


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', default='V2M-T', choices=list(MODELS))
    parser.add_argument('--size', type=int, nargs=2, default=(224, 224), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--training', action='store_true')
    parser.add_argument('--grids', action='store_true', help="tell a kernel's grids apart")
    parser.add_argument('--rows', type=int, default=25, help='kernels to print')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main() -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args()
    gpu = gpu_name()
    model = MODELS[args.model](size=tuple(args.size)).cuda().train(args.training)
    run = make_train_step(model) if args.training else partial(forward, model)
    images = torch.randn(args.batch, 3, *args.size, device='cuda')
    # This comes first because every launch takes longer once the profiler has run.
    host = host_milliseconds(partial(run, images[:2]))
    found = (kernels_by_grid if args.grids else kernels)(partial(run, images))
    busy = sum(total for *_, total in found)
    print(
        f'{gpu}, {args.model}: the GPU is busy for {busy:.1f} ms, the host for {host:.1f} ms a step'
    )
    what = dict(model=args.model, size=args.size, batch=args.batch, training=args.training)
    results = Results(args.out, **what, gpu_milliseconds=busy, host_milliseconds=host)
    for name, calls, total in found:
        results.append(dict(kernel=name, calls=calls, milliseconds=total))
    for name, calls, total in found[: args.rows]:
        print(f'{total:9.3f} ms {calls:5d} x {1e3 * total / calls:8.1f} us  {name[:90]}')


if __name__ == '__main__':
    main()
