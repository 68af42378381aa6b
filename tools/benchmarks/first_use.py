"""What a fresh cache costs: `python tools/benchmarks/first_use.py --model 'V2M-S*'`.

The script times the first training step of a model with nothing compiled, and then the first steps
at further image sizes, each beside a second step, in bfloat16 autocast on one GPU. It counts the
kernels that have been compiled. If it runs twice with `--cache FOLDER`, the second run shows what
the first step costs without compiling: the time in which PyTorch, cuBLAS and cuDNN are loaded.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from machine import gpu_name
from models import MODELS, make_train_step
from results import Results

SIZES = ('224x224', '512x512', '800x1216', '480x640', '672x1056', '544x704', '768x768', '256x256')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or ``argv``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', choices=list(MODELS), default='V2M-S*')
    parser.add_argument('--sizes', nargs='+', default=list(SIZES), help='image sizes, in turn')
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--cache', help='keep the kernels in this folder, not in a fresh one')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def count(folder: Path) -> tuple[int, int]:
    """Count the kernels in CUDA C++ and in Triton that are in a cache."""
    cubins = list(folder.rglob('*.cubin'))
    own = sum(path.parent.name == 'mmv2m' for path in cubins)
    return own, len(cubins) - own


def seconds(model: torch.nn.Module, images: torch.Tensor) -> float:
    """Return the seconds that one training step takes."""
    begun = time.perf_counter()
    make_train_step(model)(images)
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args()
    print(f'{gpu_name()}, {args.model}, {os.cpu_count()} cores')
    results = Results(args.out, model=args.model, batch=args.batch, cores=os.cpu_count())
    with tempfile.TemporaryDirectory() as fresh:
        name = args.cache or fresh
        os.environ['MMV2M_CACHE_DIR'] = f'{name}/mmv2m'
        os.environ['TRITON_CACHE_DIR'] = f'{name}/triton'

        # CUDA starts here, so its own start is not measured.
        torch.linalg.inv(torch.eye(2, device='cuda'))
        for size in args.sizes:
            shape = tuple(map(int, size.split('x')))
            model = MODELS[args.model](size=shape).cuda().train()
            images = torch.randn(args.batch, 3, *shape, device='cuda')
            first, second = seconds(model, images), seconds(model, images)
            own, triton = count(Path(name))
            found = dict(size=size, first=first, second=second, cubins=own, triton=triton)
            results.append(found)
            print(
                f'{size:>10} {first:7.2f} s, then {second:5.2f} s; {own} cubins, {triton} of Triton'
            )


if __name__ == '__main__':
    main()
