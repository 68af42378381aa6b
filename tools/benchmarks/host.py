"""The host's time for one block of V2M-S* and of timm's Swin-T: `python tools/benchmarks/host.py`.

This is the time in which Python and PyTorch launch the forward and the backward pass of one block
of the third stage, in microseconds, without waiting for the GPU. It is the difference between a
model with more and one with fewer such blocks, divided by the number of additional blocks. The
models take turns, so that a host that gets slower or faster does so for all of them.

Without a GPU, the kernels of V2M-S* are launched by a function that does nothing, on a narrow
model. Products and casts are still computed there, and Swin-T is left out.
"""

import argparse
import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import machine  # noqa: F401 - this clone's mmv2m
import timm
import torch
from torch import Tensor, nn
from triton.runtime.jit import JITFunction

from mmv2m.models import V2M
from mmv2m.ops import BACKENDS
from mmv2m.ops.runtime import driver, launch
from mmv2m.ops.triton import launch as triton_launch

ON_GPU = torch.cuda.is_available()
DEVICE = 'cuda' if ON_GPU else 'cpu'
FEWER = 2
WARM_UP = 5
clock = time.perf_counter if ON_GPU else time.process_time  # other programs may be busy on a CPU


def launch_nothing() -> None:
    """Treat CPU tensors as a GPU's, and let every launch call a function that returns 0."""
    absolute = ctypes.cast(ctypes.CDLL(None).labs, ctypes.c_void_p).value
    nothing = ctypes.CFUNCTYPE(ctypes.c_int)(absolute)

    def prepare(compiled: Any, grid: Any, named: dict[str, Any]) -> launch.Prepared:
        pointers = [ctypes.c_void_p(v.data_ptr()) for v in named.values() if torch.is_tensor(v)]
        return launch.prepare(0, (1, 1, 1), 1, 0, pointers)

    launch.driver_function = lambda name: nothing
    launch.load = lambda *args: driver._Loaded(0)
    launch.PREPARE['cpu'] = launch.PREPARE['cuda']
    triton_launch.prepare_triton = prepare
    JITFunction.run = lambda self, *args, **options: self
    BACKENDS['cuda'].refusal = lambda x: None
    BACKENDS['cuda'].DEVICES = None


def v2m(blocks: int) -> nn.Module:
    """Build V2M-S* with ``blocks`` blocks in its third stage; it is narrow if there is no GPU."""
    arch = dict(
        embed_dims=96 if ON_GPU else 8,
        depths=(2, 2, blocks, 2),
        layout='pyramid',
        expand=1,
        state_dims=1,
        gated=False,
        share='opposite',
        ffn_ratio=4,
    )
    return V2M(arch, drop_path_rate=0.0)


def swin(blocks: int) -> nn.Module:
    """Build Swin-T with ``blocks`` blocks in its third stage."""
    name, depths = 'swin_tiny_patch4_window7_224', (2, 2, blocks, 2)
    return timm.create_model(name, depths=depths, drop_path_rate=0.0, num_classes=0)


KINDS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    'V2M-S*': (v2m, 8),
    **({'Swin-T': (swin, 6)} if ON_GPU else {}),
}


class Step:
    """The forward and backward pass of a model, and the host's seconds for each."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model, self.images = model.to(DEVICE).train(), images
        self.parameters = list(model.parameters())
        self.forward: list[float] = []
        self.backward: list[float] = []

    def run(self) -> None:
        """Run one step on an idle GPU."""
        for parameter in self.parameters:
            parameter.grad = None
        if ON_GPU:
            torch.cuda.synchronize()
        begin = clock()
        with torch.autocast(DEVICE, torch.bfloat16):
            y = self.model(self.images)
        total = (y[0] if isinstance(y, tuple) else y).sum()
        middle = clock()
        total.backward()
        self.forward.append(middle - begin)
        self.backward.append(clock() - middle)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=2, help='images; with many, the host waits')
    parser.add_argument('--steps', type=int, default=60)
    return parser.parse_args(argv)


def main() -> None:
    """Measure, and print the table."""
    args = parse_args()
    if not ON_GPU:
        launch_nothing()
        torch.set_num_threads(1)
    size = 224 if ON_GPU else 32
    images = torch.rand(args.batch, 3, size, size, device=DEVICE)
    steps = {
        name: [Step(make(blocks), images) for blocks in (FEWER, more)]
        for name, (make, more) in KINDS.items()
    }
    gc.collect()
    for _ in range(args.steps + WARM_UP):
        for pair in steps.values():
            for step in pair:
                step.run()
    print(f'{torch.cuda.get_device_name() if ON_GPU else "launches of nothing, on a CPU"}')
    print(f'{"us a block":12}{"forward":>10}{"backward":>10}{"both":>10}')
    for name, (few, many) in steps.items():
        more = KINDS[name][1] - FEWER
        forward, backward = (
            1e6 * (median(getattr(many, part)[WARM_UP:]) - median(getattr(few, part)[WARM_UP:]))
            for part in ('forward', 'backward')
        )
        print(f'{name:12}{forward / more:>10.0f}{backward / more:>10.0f}', end='')
        print(f'{(forward + backward) / more:>10.0f}')


if __name__ == '__main__':
    main()
