"""One process of neighbours.py, which measures one model or operator.

Its argument is the task as JSON. It imports and compiles the code, prints ``{"ready": true}``, and
measures when a line comes on its standard input. It prints each measurement as a line of JSON.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import machine
import torch
from models import as_graph, make_train_step
from neighbour_cases import KINDS
from torch import Tensor, nn

PRINTED = sys.stdout


def tell(**message: Any) -> None:
    """Print a message to the process that started this one."""
    print(json.dumps(message), file=PRINTED, flush=True)


def reason(problem: BaseException) -> str:
    """Return what went wrong, in one line."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    errors = [line for line in lines if ': error' in line]  # a compiler's messages
    return f'{type(problem).__name__}: {(errors or lines or ["no message"])[0]}'[:200]


def batch_of(task: dict[str, Any], size: int) -> int:
    """Return the number of images, 128 or 32, or of an operator's maps.

    The maps of an operator have 65,536 tokens together, or there is one map.
    """
    if task['batch'] is not None:
        return task['batch']
    if task['kind'] == 'models':
        return 128 if size <= 256 else 32
    return max(1, 65536 // size**2)


def inputs(task: dict[str, Any], size: int, batch: int) -> Tensor:
    """Return random images, or an operator's random input."""
    device = task['device']
    if task['kind'] == 'models':
        return torch.randn(batch, 3, size, size, device=device)
    case = KINDS[task['kind']][task['name']]
    width = case.width
    axes = {
        'map': (batch, size, size, width),
        'channels first': (batch, width, size, size),
        'sequence': (batch, size**2, width),
        'scan': (batch, width, size**2),
        'scan last': (batch, size**2, width),
    }[case.layout]
    x = torch.randn(axes, device=device, dtype=case.dtype)
    return x.transpose(1, 2) if case.layout == 'scan last' else x


def step_of(kind: str, module: nn.Module, x: Tensor, training: bool) -> Callable[[], Any]:
    """Return the step that is timed: inference, or forward and backward with fresh gradients."""
    device = x.device.type
    if kind == 'models' and training and device == 'cuda':
        return partial(make_train_step(module), x)
    parameters = list(module.parameters())
    x = x.detach().requires_grad_(training and kind == 'operators')
    grads: list[Tensor] = []

    def infer() -> Tensor:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            return module(x)

    def train() -> None:
        x.grad = None
        for parameter in parameters:
            parameter.grad = None
        with torch.autocast(device, torch.bfloat16):
            y = module(x)
        if not grads:
            grads.append(torch.randn_like(y))
        y.backward(grads[0])

    return train if training else infer


def check_finite(module: nn.Module, step: Callable[[], Any], training: bool) -> None:
    """Run a step once, which compiles, and raise if an output or a gradient is not finite."""
    y = step()
    values = [p.grad for p in module.parameters() if p.grad is not None] if training else [y]
    if not values or not all(bool(torch.isfinite(v).all()) for v in values):
        raise FloatingPointError('outputs or gradients are not finite')


def clock(step: Callable[[], Any], device: str, repetitions: int) -> float:
    """Return a step's median milliseconds; ``repetitions`` are ms on a GPU, steps on a CPU."""
    if device == 'cuda':
        from triton.testing import do_bench

        return do_bench(step, warmup=repetitions // 2, rep=repetitions, return_mode='median')
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


class Built:
    """A module of one size, which all of its measurements share.

    Args:
        task: The task.
        build: Function that makes the module from a size and a batch.
        size: Side of the images or maps.
    """

    def __init__(
        self, task: dict[str, Any], build: Callable[[int, int], nn.Module], size: int
    ) -> None:
        self.task, self.on_gpu = task, task['device'] == 'cuda'
        self.before = machine.clear_memory() if self.on_gpu else 0
        torch.manual_seed(0)
        batch = batch_of(task, size)
        self.module = build(size, batch).to(task['device'])
        self.x = inputs(task, size, batch)
        case = KINDS[task['kind']][task['name']]
        self.sampled = task['kind'] == 'models' and case.clone is not None

    def measure(self, mode: str, training: bool) -> dict[str, Any]:
        """Measure the module in one mode."""
        if mode == 'graph' and not self.on_gpu:
            raise RuntimeError('CUDA graphs need a GPU')
        self.module.train(training).zero_grad(set_to_none=True)
        if self.on_gpu:
            machine.clear_memory()
        run = torch.compile(self.module) if mode == 'compile' else self.module
        step = step_of(self.task['kind'], run, self.x, training)
        check_finite(self.module, step, training)
        peak = None
        if self.on_gpu and mode != 'graph':
            peak = machine.peak_gib(step, self.before)
        step = as_graph(step) if mode == 'graph' else step
        milliseconds = clock(step, self.task['device'], self.task['rep'])
        sampled = {}
        if self.sampled and mode == 'eager' and not training:
            sampled = dict(sample=sample(self.module, self.x.shape[-1], self.task['device']))
        return dict(
            **sampled,
            batch=len(self.x),
            milliseconds=milliseconds,
            images_per_second=len(self.x) / milliseconds * 1e3,
            peak_gib=peak,
            parameters=sum(p.numel() for p in self.module.parameters()),
        )


def measure_size(
    task: dict[str, Any], build: Callable[[int, int], nn.Module], size: int
) -> Iterator[dict[str, Any]]:
    """Yield all measurements of a size."""
    places = [(mode, training) for mode in task['modes'] for training in (False, True)]
    built: Built | None = None
    for mode, training in places:
        found: dict[str, Any] = dict(mode=mode, size=size, training=training)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # official code prints here
                built = Built(task, build, size) if built is None else built
                found |= built.measure(mode, training)
        except Exception as problem:
            found['failure'] = reason(problem)
        yield found


def sample(module: nn.Module, size: int, device: str) -> dict[str, Any]:
    """Return a few logits in float32, and the norm of all gradients, for fixed images.

    They serve to compare the same official model on two scans.
    """
    torch.manual_seed(1)
    images = torch.randn(2, 3, size, size).to(device)
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        logits = module.eval()(images)
        logits.square().sum().backward()
        grads = [p.grad.double().norm() for p in module.parameters() if p.grad is not None]
        norm = torch.stack(grads).norm().item()
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value
        module.zero_grad(set_to_none=True)
    return dict(logits=logits.detach().flatten()[:32].tolist(), gradient_norm=norm)


def passes(task: dict[str, Any]) -> list[list[str]]:
    """Return groups of modes; with several sizes, graphs come last, as they may spoil the rest."""
    modes = sorted(task['modes'], key=('eager', 'compile', 'graph').index)
    if len(task['sizes']) == 1 or modes[-1] != 'graph':
        return [modes]
    return [modes[:-1], ['graph']]


def main() -> None:
    """Carry out the task of the command line."""
    task = json.loads(sys.argv[1])
    os.environ.setdefault('TORCH_CUDA_ARCH_LIST', task['arch'])
    try:
        with contextlib.redirect_stdout(sys.stderr):
            build = KINDS[task['kind']][task['name']].prepare(Path(task['clones']))
    except Exception as problem:
        tell(failure=reason(problem))
        return
    tell(ready=True)
    sys.stdin.readline()
    for modes in passes(task):
        for size in task['sizes']:
            for found in measure_size({**task, 'modes': modes}, build, size):
                tell(**found)
            torch._dynamo.reset()


if __name__ == '__main__':
    main()
