"""Speed of the operators on one GPU: `python tools/benchmarks/operators.py`.

Each case runs on our kernels (CUDA C++ and Triton, and Triton alone), on mamba_ssm's scan with the
copies that it needs for the same job (if mamba_ssm is installed), and on the reference. A single
sequence also runs on mamba_ssm's scan alone, with all tensors in the layout that it needs. The
floor stands beside the times. It is the larger of two times: the bytes that must be moved over the
copy bandwidth measured here, and the exponentials over the rate of the special function units. The
script prints a table and writes it as JSON.

`--launches` also prints the time of each of our kernels in a case. `--set
cuda.scan_backward_single.WARPS=4` tries another launch parameter, as in kernels.py.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from bare_package import provide_package
from floor import Ceilings
from kernels import set_constants
from machine import gpu_name
from profiled import print_launches
from results import Results
from torch import Tensor
from triton.testing import do_bench_cudagraph

from mmv2m.ops import can_run, directional_scan

try:
    provide_package('mamba_ssm')
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
except ImportError as problem:
    selective_scan_fn = None
    print(f'without mamba_ssm: {problem}')

CORNERS = ('right', 'left', 'down', 'up')


@dataclass(frozen=True)
class Case:
    """Scans of one map with the shape (B, H, W, channels), from several directions."""

    grid: tuple[int, int, int]
    channels: int
    states: int
    directions: Sequence[str]

    @property
    def elements(self) -> int:
        """Number of tokens times channels, over all directions."""
        batch, height, width = self.grid
        return batch * height * width * self.channels * len(self.directions)

    @property
    def is_sequence(self) -> bool:
        """Whether every image has a single row, and the only scan runs along it."""
        return self.grid[1] == 1 and self.directions == ('right',)

    def floor(self, ceilings: Ceilings) -> float:
        """Return the floor in milliseconds: x, delta and z are read, y is written, 2 bytes each."""
        return ceilings.floor(4 * 2 * self.elements, self.elements * self.states)

    def inputs(self) -> dict[str, Tensor]:
        """Return random arguments of the scan, in the range of a trained model's."""
        grid, channels, states = self.grid, self.channels, self.states

        def normal(*size: int) -> Tensor:
            return torch.randn(size, device='cuda', dtype=torch.bfloat16).requires_grad_()

        A = -torch.arange(1.0, states + 1, device='cuda').repeat(channels, 1)
        bias = torch.full((channels,), -4.0, device='cuda')
        return dict(
            x=normal(*grid, channels),
            delta=normal(*grid, channels),
            A=A.requires_grad_(),
            B=normal(*grid, states),
            D=torch.ones(channels, device='cuda', requires_grad=True),
            z=normal(*grid, channels),
            delta_bias=bias.requires_grad_(),
        )


CASES = {
    'V2M-T, four directions': Case((128, 14, 14), 384, 16, CORNERS),
    'pyramid stage 1, four directions': Case((128, 56, 56), 96, 1, CORNERS),
    'sequence of 196': Case((128, 1, 196), 384, 16, CORNERS[:1]),
    'sequence of 65,536': Case((2, 1, 65536), 384, 1, CORNERS[:1]),
}


def ours(case: Case, inputs: dict[str, Tensor], backend: str) -> Tensor:
    """Run the scans of a case on our operator, and sum them."""
    outputs = [
        directional_scan(**inputs, delta_softplus=True, direction=d, backend=backend)
        for d in case.directions
    ]
    return sum(outputs[1:], outputs[0])  # starting from zero would add one pass


def mamba(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    """Run the same scans on mamba_ssm: lanes as batch, channels first, and copies for flips."""
    batch, height, width = case.grid
    outputs = []
    for direction in case.directions:
        down, backwards = direction in ('down', 'up'), direction in ('left', 'up')

        def lanes(x: Tensor, down: bool = down, backwards: bool = backwards) -> Tensor:
            x = (x.transpose(1, 2) if down else x).flatten(0, 1)
            return (x.flip(1) if backwards else x).transpose(1, 2).contiguous()

        x, delta, B, z = (lanes(inputs[name]) for name in ('x', 'delta', 'B', 'z'))
        y = selective_scan_fn(
            x,
            delta,
            inputs['A'],
            B,
            torch.ones_like(B),
            inputs['D'],
            z=z,
            delta_bias=inputs['delta_bias'],
            delta_softplus=True,
        ).transpose(1, 2)
        y = (y.flip(1) if backwards else y).unflatten(0, (batch, width if down else height))
        outputs.append(y.transpose(1, 2) if down else y)
    return sum(outputs[1:], outputs[0])


def bare_mamba(inputs: dict[str, Tensor]) -> tuple[Callable[[], Tensor], dict[str, Tensor]]:
    """Return mamba_ssm's scan of one sequence with channels first, and the inputs of that scan."""

    def channels_first(x: Tensor) -> Tensor:
        return x.detach().squeeze(1).transpose(1, 2).contiguous().requires_grad_()

    maps = {name: channels_first(inputs[name]) for name in ('x', 'delta', 'B', 'z')}
    own = {**inputs, **maps, 'C': torch.ones_like(maps['B'])}
    x, delta, A, B, C = (own[name] for name in ('x', 'delta', 'A', 'B', 'C'))
    others = dict(z=own['z'], delta_bias=own['delta_bias'], delta_softplus=True)
    return lambda: selective_scan_fn(x, delta, A, B, C, own['D'], **others), own


def both_passes(run: Callable[[], Tensor], inputs: dict[str, Tensor]) -> Callable[[], Any]:
    """Return the forward and the backward pass, for a random gradient of the output."""
    grad = torch.randn_like(run())
    leaves = [value for value in inputs.values() if value.requires_grad]
    return lambda: torch.autograd.grad(run(), leaves, grad)


def time(run: Callable[[], Tensor], inputs: dict[str, Tensor]) -> tuple[float, float]:
    """Return the milliseconds of the forward pass, and of the forward and the backward pass.

    Both run as CUDA graphs, because the GPU finishes a scan before the host launches the next one.
    """
    measure = partial(do_bench_cudagraph, rep=100, return_mode='median')
    with torch.no_grad():
        forward = measure(run)
    return forward, measure(both_passes(run, inputs))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cases', nargs='+', default=list(CASES), choices=list(CASES))
    parser.add_argument('--skip-reference', action='store_true', help='it is slow')
    parser.add_argument('--launches', action='store_true', help="print our kernels' times, too")
    parser.add_argument('--set', nargs='+', default=[], metavar='MODULE.NAME=NUMBER')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main() -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args()
    set_constants(args.set)
    gpu = gpu_name()
    ceilings = Ceilings.of_gpu()
    print(f'{gpu}: {ceilings}')
    results = Results(args.out, **ceilings.as_dict())
    print(f'{"case":34}{"backend":>12}{"forward ms":>12}{"of floor":>10}{"+ backward":>12}')
    for name in args.cases:
        case = CASES[name]
        inputs, floor = case.inputs(), case.floor(ceilings)
        backends = [name for name in ('cuda', 'triton') if can_run(name, inputs['x'])]
        # The reference launches several kernels per step of the scan.
        if not args.skip_reference and max(case.grid[1:]) < 1000:
            backends.append('reference')
        runs = {name: (partial(ours, case, inputs, name), inputs) for name in backends}
        if selective_scan_fn is not None:
            runs['mamba_ssm'] = (partial(mamba, case, inputs), inputs)
            if case.is_sequence:
                runs['bare'] = bare_mamba(inputs)
        for backend, (run, leaves) in runs.items():
            forward, both = time(run, leaves)
            results.append(
                dict(case=name, backend=backend, forward_ms=forward, both_ms=both, floor_ms=floor)
            )
            print(f'{name:34}{backend:>12}{forward:>12.3f}{floor / forward:>10.0%}{both:>12.3f}')
            if args.launches and backend == 'cuda':
                print_launches('forward', run)
                print_launches('forward and backward', both_passes(run, leaves))


if __name__ == '__main__':
    main()
