"""Timing the Runner's steps of one training, as a whole and in parts."""

import argparse
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from itertools import repeat
from statistics import fmean, median
from typing import Any

import torch
from machine import GIB
from mmengine.hooks import Hook
from mmengine.runner import Runner
from profiled import busy_milliseconds, longest_kernels
from torch.profiler import ProfilerActivity, profile
from trained import TRAINED, trained_config

from mmv2m.engine.task_library import task_library_of
from mmv2m.reproduce.made_batch import make_batch
from mmv2m.reproduce.runner_steps import made_loader, now, run_steps

__all__ = ['PARTS', 'measure']

PARTS = ('preprocessing', 'forward', 'backward', 'optimizer', 'hooks')
"""Parts of a step. ``forward`` has the losses, ``optimizer`` clipping, and ``hooks`` the rest."""

ROUNDS = 3
"""Number of steps of each image size in the measurements besides the whole step's time."""


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Time the steps of one training.

    Args:
        name: A key of :data:`.trained.TRAINED`.
        args: The command line of training.py.

    Returns:
        A dict with times in milliseconds: ``milliseconds`` of a whole step, ``gpu_milliseconds``
        for which the GPU was busy (None on a CPU), the times of its ``parts``, and the times of a
        step of each of the ``sizes``. ``peak_gib`` is the memory of the GPU that PyTorch reserves.
    """
    trained = TRAINED[name]
    on_gpu = args.device == 'cuda'
    cfg = trained_config(trained, args.stock, args.graphs, amp=on_gpu)
    task_library_of(cfg).prepare()
    sizes = [tuple(args.size)] if args.size else trained.sizes
    batch = args.batch or trained.batch
    batches = [make_batch(cfg, size, batch, args.device) for size in sizes]

    def script(runner: Runner) -> Generator[None, None, dict[str, Any]]:
        yield from repeat(None, _whole_rounds(args.warm_up, sizes))
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        block = _whole_rounds(args.block, sizes)
        milliseconds = yield from _blocks(block, args.blocks)
        peak = torch.cuda.max_memory_reserved() / GIB if on_gpu else None
        parts, by_size = yield from _parts(runner, sizes)
        # This comes last because every launch takes longer once the profiler has run.
        busy, kernels = (yield from _busy(len(sizes))) if on_gpu else (None, [])
        return dict(
            milliseconds=milliseconds,
            images_per_second=batch / milliseconds * 1e3,
            gpu_milliseconds=busy,
            parts=parts,
            sizes=by_size,
            peak_gib=peak,
            groups=len(runner.optim_wrapper.param_groups),
            graphs=_replays(runner) > 0,
            **(dict(kernels=kernels[: args.kernels]) if args.kernels else {}),
        )

    found = run_steps(cfg, script, made_loader(batches))
    return dict(model=name, task=trained.task, batch=batch, **found)


def _whole_rounds(steps: int, sizes: Iterable[Any]) -> int:
    """Round a number of steps up, so that every size comes equally often."""
    each = len(list(sizes))
    return -(-steps // each) * each


def _blocks(steps: int, blocks: int) -> Generator[None, None, float]:
    """Return the milliseconds per step, the median of blocks; only a block's end is waited for."""
    times = []
    for _ in range(blocks):
        start = now()
        yield from repeat(None, steps)
        times.append((now() - start) / steps * 1e3)
    return median(times)


def _parts(
    runner: Runner, sizes: list[tuple[int, int]]
) -> Generator[None, None, tuple[dict[str, float], dict[str, float]]]:
    """Return the milliseconds of each part and of a step of each size; all ends are waited for."""
    clock = _Clock()
    clock.watch(runner)
    whole = defaultdict(list)
    steps = ROUNDS * max(len(sizes), 2)
    for step in range(steps):
        start = clock.last = now()
        yield
        clock('hooks')
        whole['x'.join(map(str, sizes[step % len(sizes)]))].append((clock.last - start) * 1e3)
    clock.leave(runner)
    parts = {part: fmean(clock.seconds[part]) * len(clock.seconds[part]) / steps for part in PARTS}
    return (
        {part: 1e3 * seconds for part, seconds in parts.items()},
        {size: median(times) for size, times in whole.items()},
    )


class _Clock:
    """A clock that adds the time since the last mark to a part of a step."""

    def __init__(self) -> None:
        self.last = now()
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def __call__(self, part: str) -> None:
        """Add the time since the last mark to ``part``."""
        moment = now()
        self.seconds[part].append(moment - self.last)
        self.last = moment

    def watch(self, runner: Runner) -> None:
        """Mark the ends of the parts of the runner's steps."""
        runner.register_hook(_Begin(self), priority='LOWEST')
        runner.register_hook(_End(self), priority='HIGHEST')
        preprocessor = runner.model.data_preprocessor
        self.handle = preprocessor.register_forward_hook(lambda *_: self('preprocessing'))
        wrapper = runner.optim_wrapper
        self._mark(wrapper, 'backward', before='forward', after='backward')
        self._mark(wrapper, 'update_params', before='forward', after='optimizer')

    def leave(self, runner: Runner) -> None:
        """Stop marking."""
        self.handle.remove()
        for name in ('backward', 'update_params'):
            del runner.optim_wrapper.__dict__[name]
        runner._hooks = [h for h in runner._hooks if not isinstance(h, _Begin | _End)]

    def _mark(self, owner: Any, name: str, before: str, after: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def marked(*args: Any, **settings: Any) -> Any:
            self(before)
            result = function(*args, **settings)
            self(after)
            return result

        setattr(owner, name, marked)


class _Begin(Hook):
    """The last of the hooks that run before a step."""

    def __init__(self, clock: _Clock) -> None:
        self.clock = clock

    def before_train_iter(self, *args: Any, **settings: Any) -> None:
        self.clock('hooks')


class _End(Hook):
    """The first of the hooks that run after a step."""

    def __init__(self, clock: _Clock) -> None:
        self.clock = clock

    def after_train_iter(self, *args: Any, **settings: Any) -> None:
        self.clock('optimizer')


def _busy(sizes: int) -> Generator[None, None, tuple[float, list[dict[str, Any]]]]:
    """Return the GPU's busy milliseconds per step, and the kernels, the longest first."""
    steps = sizes if sizes > 1 else ROUNDS
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        yield from repeat(None, steps)
        torch.cuda.synchronize()
    kernels = [
        dict(kernel=name, calls=calls / steps, milliseconds=milliseconds / steps)
        for name, calls, milliseconds in longest_kernels(profiler)
    ]
    return busy_milliseconds(profiler) / steps, kernels


def _replays(runner: Runner) -> int:
    """Return how often the backbone has run as a CUDA graph."""
    return getattr(runner.model.backbone.forward, 'replays', 0)
