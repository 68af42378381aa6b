"""Speed and memory of the 2D SSM as a layer: `python tools/benchmarks/mixer.py`.

The script measures the mixers of V2M-T and V2M-S at 224 x 224, forward alone and with the backward
pass, on each backend that runs here, beside the attention of a DeiT of the same width. It runs
under bfloat16 autocast on one GPU, prints a table and writes it as JSON.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from bare_package import provide_package
from machine import clear_memory, gpu_name, peak_gib
from models import as_graph
from results import Results
from timm.layers import Attention
from torch import Tensor, nn
from triton.testing import do_bench

from mmv2m.models import SS2D
from mmv2m.ops import BACKENDS, can_run

WIDTHS = {'V2M-T': 192, 'V2M-S': 384}
GRID = (14, 14)


class TokenMixer(nn.Module):
    """Attention on a map instead of a sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(width, num_heads=width // 64, qkv_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token of a map (B, H, W, D) to all others; the shape stays the same."""
        return self.attention(x.flatten(1, 2)).view_as(x)


def layers(width: int) -> dict[str, Callable[[], nn.Module]]:
    """Return the layers of one width: the 2D SSM on each backend, and attention."""
    probe = torch.empty(1, device='cuda')
    chosen = {name: partial(SS2D, width, backend=name) for name in BACKENDS if can_run(name, probe)}
    return {**chosen, 'attention': partial(TokenMixer, width)}


def run(layer: nn.Module, x: Tensor, grad: Tensor | None) -> None:
    """Run one forward pass, and a backward pass if there is a gradient to start it."""
    with torch.autocast('cuda', torch.bfloat16), torch.set_grad_enabled(grad is not None):
        y = layer(x)
    if grad is not None:
        y.backward(grad)


def measure(layer: nn.Module, batch: int, width: int, mode: str, training: bool) -> dict[str, Any]:
    """Measure one layer's time in one mode, and the peak memory of its maps."""
    before = clear_memory()
    x = torch.randn(batch, *GRID, width, device='cuda', requires_grad=training)
    grad = torch.randn(batch, *GRID, width, device='cuda').bfloat16() if training else None
    step = partial(run, torch.compile(layer) if mode == 'compile' else layer, x, grad)
    peak = peak_gib(step, before)
    if mode == 'graph':
        step = as_graph(step)
    milliseconds = do_bench(step, warmup=100, rep=300, return_mode='median')
    return dict(mode=mode, training=training, milliseconds=milliseconds, peak_gib=peak)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--skip', nargs='+', default=[], help='layers to leave out')
    parser.add_argument(
        '--modes', nargs='+', default=['eager'], choices=['eager', 'compile', 'graph']
    )
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_args(argv)


def main() -> None:
    """Measure what the command line asks for, and print it."""
    args = parse_args()
    provide_package('mamba_ssm')
    print(f'{gpu_name()}, batch {args.batch}, {GRID} tokens, bf16 autocast')
    print(f'{"model":8}{"layer":12}{"mode":>9}{"":>20}{"ms":>9}{"peak GiB":>10}')
    results = Results(args.out)
    for model, width in WIDTHS.items():
        for name, make in layers(width).items():
            if name in args.skip:
                continue
            for mode in args.modes:
                for training in (False, True):
                    torch.manual_seed(0)
                    r = measure(make().cuda(), args.batch, width, mode, training)
                    results.append(dict(model=model, layer=name, **r))
                    print(
                        f'{model:8}{name:12}{mode:>9}'
                        f'{"forward + backward" if training else "forward":>20}'
                        f'{r["milliseconds"]:>9.3f}{r["peak_gib"]:>10.2f}',
                        flush=True,
                    )


if __name__ == '__main__':
    main()
