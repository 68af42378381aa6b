"""The forward 2D SSM in one kernel, or in several: `python tools/benchmarks/one_walk.py`.

The script measures the convolution, the projections and the scan of a pyramid with single states,
in bfloat16: two opposite corners, both halves, by default in each stage of V2M-S*. The one kernel
is `ssm_forward.cu`; the several kernels are the ones that other shapes take. Each call is repeated
in a CUDA graph, which leaves the host's time out.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from machine import gpu_name
from results import Results
from torch import Tensor
from triton.testing import do_bench_cudagraph

from mmv2m.ops import cuda, triton
from mmv2m.ops.directions import read_directions
from mmv2m.ops.gpu.kernels import Kernels
from mmv2m.ops.gpu.ssm import ssm_forward

TAPS = 4
HALVES = {1: ('right,left', 'input', 'none'), 2: ('down,up', 'output', 'sum')}
"""For each half: directions, the tokens' projected sides, and whether outputs are summed."""


class SeparateKernels(Kernels):
    """A kernel set without the kernel that computes the whole forward pass."""

    def ssm_at_once(self, *args: Any) -> Any:
        """Say that the kernel cannot run, so that the others run instead."""
        return NotImplemented


WAYS = dict(one=Kernels(cuda, triton), several=SeparateKernels(cuda, triton))


def make_tensors(half: int, batch: int, side: int, channels: int) -> list[Tensor | None]:
    """Return random tensors in SSMTensors' order; the second half has two maps."""
    maps, rank = (2,) if half == 2 else (), -(-channels // 16)

    def normal(*size: int, scale: float = 1.0) -> Tensor:
        return torch.randn(size, device='cuda') * scale

    x = normal(*maps, batch, side, side, channels).to(torch.bfloat16)
    conv = (normal(channels, 1, TAPS, scale=0.5), normal(channels, scale=0.1))
    projections = (normal(rank + 1, channels, scale=channels**-0.5), normal(channels, rank))
    return [
        x,
        None,
        *conv,
        *projections,
        normal(channels) - 4,
        normal(channels, 1),
        normal(channels),
    ]


def calls(batch: int, side: int, channels: int) -> Iterator[tuple[int, str, Callable[[], Any]]]:
    """Yield each half's forward pass as one kernel and as several; both keep tensors to go back."""
    for half, (directions, projects, reduction) in HALVES.items():
        tensors, ways = make_tensors(half, batch, side, channels), read_directions(directions)
        args = (tensors, ways, projects, reduction, True)
        for name, kernels in WAYS.items():
            yield half, name, partial(ssm_forward, kernels, *args, keeps=True)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--sides', type=int, nargs='+', default=[56, 28, 14, 7])
    parser.add_argument('--channels', type=int, default=96, help='of the first side; then doubled')
    parser.add_argument('--rep', type=int, default=50, help='ms per measurement')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main() -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args()
    print(f'{gpu_name()}, {args.batch} images, microseconds')
    results = Results(args.out, batch=args.batch)
    for stage, side in enumerate(args.sides):
        channels = args.channels * 2**stage
        for half, name, run in calls(args.batch, side, channels):
            run()  # the first call compiles
            microseconds = 1e3 * do_bench_cudagraph(run, rep=args.rep, return_mode='median')
            results.append(
                dict(
                    side=side, channels=channels, half=half, kernels=name, microseconds=microseconds
                )
            )
            print(f'{side:4} x {side:<4} {channels:4}  half {half}  {name:8}{microseconds:8.0f}')


if __name__ == '__main__':
    main()
