"""Speed and memory of the exact 2D recurrence on one GPU: `python tools/benchmarks/coupled.py`.

First, the script compares a small case with the reference in float64, and fails if they differ. It
then measures the coupled scan of four corners in bfloat16 beside its floor, and the mixers of V2M-T
(E = 384, N = 16) with either recurrence under bfloat16 autocast, forward alone and with the
backward pass. It prints tables and writes them as JSON.

`--launches` also prints the time of each kernel. `--set cuda.coupled_forward.STEPS=8` tries another
launch parameter, and `--sweep` tries all that are listed here, one after the other.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from functools import partial

import torch
from floor import Ceilings
from kernels import set_constants
from machine import clear_memory, gpu_name, peak_gib
from mixer import run
from profiled import print_launches
from results import Results
from torch import Tensor
from triton.testing import do_bench, do_bench_cudagraph

from mmv2m.models import SS2D
from mmv2m.ops import CORNERS, coupled_scan, cuda
from mmv2m.ops.directions import write_corners

SIZES = ((128, 14, 14), (8, 64, 64), (1, 256, 256), (1, 512, 512))
"""The number of images, and the rows and columns of their tokens."""

WIDTH, CHANNELS, STATES = 192, 384, 16
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}

EXPONENTIALS = 4
"""The number of exponentials for each state and token: one for each of the four decays."""

FORWARD, BACKWARD = 'cuda.coupled_forward', 'cuda.coupled_backward'
SWEEP = (
    *(f'{FORWARD}.WARPS={n}' for n in (1, 4)),
    *(f'{FORWARD}.STEPS={n}' for n in (2, 8)),
    *(f'{FORWARD}.WARPS_AT_ONCE={n}' for n in (8, 16)),
    *(f'{FORWARD}.STATES_HELD=8 {FORWARD}.WARPS_AT_ONCE={n}' for n in (6, 8)),
    *(f'{BACKWARD}.WARPS={n}' for n in (1, 2)),
    *(f'{BACKWARD}.MOST_ROWS={n}' for n in (8, 32)),
    *(f'{BACKWARD}.STATES_HELD=2 {BACKWARD}.WARPS_AT_ONCE={n}' for n in (12, 16)),
)


def arguments(
    batch: int,
    height: int,
    width: int,
    dtype: torch.dtype = torch.bfloat16,
    channels: int = CHANNELS,
    device: str = 'cuda',
) -> dict[str, Tensor]:
    """Make random arguments of the scan from four corners, in the range of a trained model's."""
    maps = (len(CORNERS), batch, height, width)
    normal = partial(torch.randn, device=device)
    A = torch.arange(1.0, STATES + 1, device=device).expand(2, 2, channels, STATES)
    share = torch.sigmoid(normal(2, channels))
    return dict(
        x=normal(*maps, channels, dtype=dtype),
        delta=normal(2, *maps, channels, dtype=dtype),
        A=-A.contiguous(),
        weight=torch.stack((share[0], 1 - share[0], 1 - share[1], share[1])).view(2, 2, -1),
        B=normal(*maps, 2, STATES, dtype=dtype),
        C=normal(*maps, 2, STATES, dtype=dtype),
        D=torch.ones(channels, device=device),
        delta_bias=normal(2, channels) - 4,
    )


def results_of(given: dict[str, Tensor], backend: str, dtype: torch.dtype | None) -> list[Tensor]:
    """Return the output and all gradients."""
    leaves = {n: t.detach().to(dtype or t.dtype).requires_grad_() for n, t in given.items()}
    y = coupled_scan(**leaves, delta_softplus=True, corners=tuple(CORNERS), backend=backend)
    y.backward(given['x'].cos().to(y.dtype))
    return [y.detach(), *(leaf.grad for leaf in leaves.values() if leaf.grad is not None)]


def check() -> bool:
    """Tell whether the kernels agree with the reference in float64, and three runs to the bit."""
    agrees = True
    for dtype, limit in TOLERANCE.items():
        given = arguments(2, 19, 37, dtype, channels=40)
        given['delta'] += 2  # some time steps forget the state, and some do not
        found = [results_of(given, 'cuda', None) for _ in range(3)]  # only the last one is replayed
        truth = results_of(given, 'reference', torch.float64)
        for name, value, expected in zip(('y', *given), found[0], truth, strict=True):
            error = ((value.double() - expected).norm() / expected.norm()).item()
            agrees &= error < limit
            print(f'{str(dtype):16} {name:12} {error:.1e}{"" if error < limit else "  WRONG"}')
        same = all(torch.equal(*pair) for f in found[1:] for pair in zip(found[0], f, strict=True))
        agrees &= same
        print(f'{str(dtype):16} runs agree to the bit: {same}')
    return agrees


def kernel_times(given: dict[str, Tensor]) -> tuple[float, float]:
    """Return the kernels' milliseconds in each pass, without the host's time."""
    args = (*given.values(), True, write_corners([CORNERS.values()]))
    measure = partial(do_bench_cudagraph, rep=100, return_mode='median')
    forward = measure(partial(cuda.coupled_scans_forward, *args))
    return forward, measure(partial(cuda.coupled_scans_backward, given['x'], *args))


def measure(recurrence: str, size: tuple[int, int, int], training: bool) -> dict[str, float]:
    """Measure a mixer's time and the peak memory of its maps."""
    torch.manual_seed(0)
    layer = SS2D(WIDTH, recurrence=recurrence).cuda()
    before = clear_memory()
    x = torch.randn(*size, WIDTH, device='cuda', requires_grad=training)
    grad = torch.randn(*size, WIDTH, device='cuda').bfloat16() if training else None
    step = partial(run, layer, x, grad)
    peak = peak_gib(step, before)
    milliseconds = do_bench(step, warmup=50, rep=200, return_mode='median')
    return dict(milliseconds=milliseconds, peak_gib=peak)


def measure_scans(sizes: Sequence[tuple[int, int, int]], results: Results) -> None:
    """Measure the operator's kernels at all sizes."""
    ceilings = Ceilings.of_gpu()
    print(f'\n{"coupled scan":18}{"forward ms":>12}{"of floor":>10}{"backward ms":>13}')
    for size in sizes:
        given = arguments(*size)
        floor = ceilings.floor(0, EXPONENTIALS * STATES * given['x'].numel())
        forward, backward = kernel_times(given)
        results.append(
            dict(what='scan', size=size, forward_ms=forward, backward_ms=backward, floor_ms=floor)
        )
        name = ' x '.join(map(str, size))
        print(f'{name:18}{forward:12.3f}{floor / forward:10.0%}{backward:13.3f}', flush=True)
        del given


def measure_mixers(sizes: Sequence[tuple[int, int, int]], results: Results, launches: bool) -> None:
    """Measure layers with either recurrence at all sizes."""
    print(f'\n{"mixer":18}{"recurrence":12}{"forward":>9}{"+ backward":>12}{"GiB":>7}')
    for size in sizes:
        name = ' x '.join(map(str, size))
        for recurrence in ('simplified', 'coupled'):
            forward, both = (measure(recurrence, size, training) for training in (False, True))
            results.append(
                dict(
                    what='mixer',
                    size=size,
                    recurrence=recurrence,
                    forward_ms=forward['milliseconds'],
                    both_ms=both['milliseconds'],
                    peak_gib=both['peak_gib'],
                )
            )
            print(
                f'{name:18}{recurrence:12}{forward["milliseconds"]:9.3f}'
                f'{both["milliseconds"]:12.3f}{both["peak_gib"]:7.2f}',
                flush=True,
            )
        if launches:
            layer = SS2D(WIDTH, recurrence='coupled').cuda()
            x = torch.randn(*size, WIDTH, device='cuda', requires_grad=True)
            grad = torch.randn(*size, WIDTH, device='cuda').bfloat16()
            print_launches('forward', partial(run, layer, x, None), 20)
            print_launches('forward and backward', partial(run, layer, x, grad), 20)


def sweep(sizes: Sequence[tuple[int, int, int]]) -> None:
    """Measure the kernels with each setting of :data:`SWEEP`, one at a time."""
    for size in sizes:
        given = arguments(*size)
        for setting in ('', *SWEEP):
            parts = setting.split()
            before = [constant(part) for part in parts]
            set_constants(parts)
            try:
                forward, backward = kernel_times(given)
                print(f'{size!s:16} {setting:72}{forward:9.3f}{backward:9.3f}', flush=True)
            except RuntimeError as problem:
                print(f'{size!s:16} {setting:72} {str(problem)[:60]}', flush=True)
            set_constants(before)


def constant(setting: str) -> str:
    """Return the present value of a launch parameter, written as ``--set`` takes it."""
    where = setting.partition('=')[0]
    module, _, name = where.rpartition('.')
    return f'{where}={getattr(importlib.import_module(f"mmv2m.ops.{module}"), name)}'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sizes', type=int, nargs='+', default=range(len(SIZES)), metavar='NUMBER')
    parser.add_argument('--check', action='store_true', help='compare, but measure nothing')
    parser.add_argument('--skip-mixers', action='store_true', help='measure the scans only')
    parser.add_argument('--launches', action='store_true', help="print the kernels' times, too")
    parser.add_argument('--sweep', action='store_true', help='try other launch parameters')
    parser.add_argument('--set', nargs='+', default=[], metavar='MODULE.NAME=NUMBER')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main() -> None:
    """Compare the kernels with the reference, measure, and print."""
    args = parse_args()
    set_constants(args.set)
    print(gpu_name(), torch.__version__)
    torch.manual_seed(0)
    if not check():
        sys.exit('error: the kernels do not agree with the reference')
    if args.check:
        return
    sizes = [SIZES[number] for number in args.sizes]
    if args.sweep:
        sweep(sizes)
        return
    results = Results(args.out)
    measure_scans(sizes, results)
    if not args.skip_mixers:
        measure_mixers(sizes, results, args.launches)


if __name__ == '__main__':
    main()
