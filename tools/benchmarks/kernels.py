"""Time of each kernel of the mixer on one GPU: `python tools/benchmarks/kernels.py`.

The script measures the four corners of both halves of V2M's 2D SSM, forward and backward, in
bfloat16; the sizes are by default V2M-T's. Each kernel is repeated in a CUDA graph, which leaves
the host's time out. The forward scans have their share of the floor beside them. `--set
scan_backward.GROUP=8 conv.CHANNELS=32` tries other launch parameters, which are constants of the
modules in ops/triton/; `--set cuda.conv.STEPS=14` sets one of the modules in ops/cuda/.
"""

import argparse
import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from floor import Ceilings
from machine import gpu_name
from results import Results
from torch import Tensor
from triton.testing import do_bench_cudagraph

from mmv2m.ops import cuda, triton
from mmv2m.ops.directions import read_directions
from mmv2m.ops.gpu.scan_inputs import ScanInputs

DIRECTIONS = (read_directions('right,left,down,up'), read_directions('down,up,left,right'))
TAPS = 4


def normal(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return random numbers on the GPU."""
    return torch.randn(size, device='cuda', dtype=dtype)


class Mixer:
    """The intermediate maps of one mixer, and its kernels as functions without arguments."""

    def __init__(self, batch: int, height: int, width: int, channels: int, states: int) -> None:
        bf16 = partial(normal, dtype=torch.bfloat16)
        grid, rank = (batch, height, width), -(-channels // 32)
        self.x, self.z = bf16(*grid, 2 * channels).chunk(2, -1)
        self.maps, self.map = bf16(4, *grid, channels), bf16(*grid, channels)
        self.conv = (normal(channels, TAPS) / 2, normal(channels) / 8)
        self.projection = (
            normal(rank + states, channels) / channels**0.5,
            normal(channels, rank) / rank**0.5,
            normal(channels) - 4,
        )
        self.A = -torch.arange(1.0, states + 1, device='cuda').repeat(channels, 1)
        self.D = torch.ones(channels, device='cuda')

    def scan_inputs(self, half: int) -> ScanInputs:
        """Return the inputs of the scans of one half."""
        x, gated = (self.maps, self.z) if half else (self.x, None)
        convolved = triton.convs_forward(x, gated, *self.conv, DIRECTIONS[half])
        _, delta, sides = triton.project(convolved, *self.projection, self.A.shape[1])
        B, C = (None, sides[0]) if half else (sides[0], None)
        bias = self.projection[-1]
        return ScanInputs(
            *(convolved, delta, self.A, B, C, self.D, bias, 'applied', DIRECTIONS[half])
        )

    def scan_floor(self, half: int, ceilings: Ceilings) -> float:
        """Return the floor of a half's forward scans in microseconds.

        The scans read four maps and their time steps, and write four maps or their sum. Each
        element has two bytes.
        """
        elements, states = self.map.numel(), self.A.shape[1]
        maps = 4 + 4 + (1 if half else 4)
        return 1e3 * ceilings.floor(2 * maps * elements, 4 * elements * states)

    def projection_backward(self, adds: bool = True) -> Callable[[], Any]:
        """Return the kernel of the projections' gradients; it adds to the map's gradient or not."""
        weight, dt_weight, _ = self.projection
        low_rank, delta, sides = triton.project(self.maps, *self.projection, self.A.shape[1])
        partial_sums = [side[None].contiguous() for side in sides]
        given = (delta, partial_sums, self.maps, low_rank, weight, dt_weight)
        return partial(triton.project_backward, torch.empty_like(self.maps), *given, adds=adds)

    def kernels(self) -> dict[str, Callable[[], Any]]:
        """Return the kernels by name, in which 1 and 2 stand for the halves."""
        inputs = [self.scan_inputs(half) for half in (0, 1)]
        first, second = (self.x, None, *self.conv), (self.maps, self.z, *self.conv)
        projects = (*self.projection, self.A.shape[1])
        cuda_both = cuda.convs_project
        *_, projected = self.projection_backward(adds=False)()
        conv_back = partial(cuda.convs_backward, self.maps, projected=projected)
        return {
            'conv forward 1': partial(triton.convs_forward, *first, DIRECTIONS[0]),
            'conv forward 2': partial(triton.convs_forward, *second, DIRECTIONS[1]),
            'projection': partial(triton.project, self.maps, *projects),
            'scan forward 1': partial(triton.scans_forward, inputs[0]),
            'scan forward 2': partial(triton.scans_forward, inputs[1], sums=True),
            'gate forward': partial(triton.gate_forward, self.map, self.z),
            'scan backward 1': partial(triton.scans_backward, self.maps, inputs[0]),
            'scan backward 2': partial(triton.scans_backward, self.map, inputs[1], sums=True),
            'conv backward 1': partial(triton.convs_backward, self.maps, *first, DIRECTIONS[0]),
            'conv backward 2': partial(triton.convs_backward, self.maps, *second, DIRECTIONS[1]),
            'CUDA conv forward 1': partial(cuda.convs_forward, *first, DIRECTIONS[0]),
            'CUDA conv forward 2': partial(cuda.convs_forward, *second, DIRECTIONS[1]),
            'CUDA conv backward 1': partial(conv_back, *first, DIRECTIONS[0]),
            'CUDA conv backward 2': partial(conv_back, *second, DIRECTIONS[1]),
            'CUDA projection': partial(cuda.project, self.maps, *projects),
            'CUDA conv, projection 1': partial(cuda_both, *first, DIRECTIONS[0], *projects),
            'CUDA conv, projection 2': partial(cuda_both, *second, DIRECTIONS[1], *projects),
            'CUDA scan forward 1': partial(cuda.scans_forward, inputs[0]),
            'CUDA scan forward 2': partial(cuda.scans_forward, inputs[1], sums=True),
            'CUDA scan backward 1': partial(cuda.scans_backward, self.maps, inputs[0]),
            'CUDA scan backward 2': partial(cuda.scans_backward, self.map, inputs[1], sums=True),
            'projection backward': self.projection_backward(),
            'projection backward, not adding': self.projection_backward(adds=False),
            'gate backward': partial(triton.gate_backward, self.map, self.map, self.z),
        }


def set_constants(assignments: list[str]) -> None:
    """Carry out ``module.NAME=number`` on the modules of a kernel set."""
    for assignment in assignments:
        where, _, value = assignment.partition('=')
        module, _, name = where.rpartition('.')
        if '.' not in module:
            module = f'triton.{module}'
        setattr(importlib.import_module(f'mmv2m.ops.{module}'), name, int(value))


def describe(name: str) -> dict[str, Any]:
    """Split a name into the kernel, its half of the mixer (None for both) and its backend."""
    kernel, backend = name.removeprefix('CUDA '), 'cuda' if name.startswith('CUDA ') else 'triton'
    half = int(kernel[-1]) if kernel[-1].isdigit() else None
    return dict(kernel=kernel.rstrip(' 12'), half=half, backend=backend)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--grid', type=int, nargs=3, default=(128, 14, 14), metavar=('B', 'H', 'W'))
    parser.add_argument('--channels', type=int, default=384)
    parser.add_argument('--states', type=int, default=16)
    parser.add_argument('--set', nargs='+', default=[], metavar='MODULE.NAME=NUMBER')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main() -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args()
    set_constants(args.set)
    gpu = gpu_name()
    mixer = Mixer(*args.grid, args.channels, args.states)
    ceilings = Ceilings.of_gpu()
    print(f'{gpu}, {args.grid} tokens, E {args.channels}, N {args.states}; {ceilings}')
    results = Results(args.out, grid=args.grid, channels=args.channels, states=args.states)
    for name, run in mixer.kernels().items():
        microseconds = 1e3 * do_bench_cudagraph(run, rep=100, return_mode='median')
        result = dict(**describe(name), microseconds=microseconds)
        if result['kernel'] == 'scan forward':
            result['floor_us'] = mixer.scan_floor(result['half'] - 1, ceilings)
        results.append(result)
        share = f'{result["floor_us"] / microseconds:5.0%}' if 'floor_us' in result else ''
        print(f'{name:23}{microseconds:9.0f} us{share}', flush=True)


if __name__ == '__main__':
    main()
