"""The kernels of a step and their times, as the profiler sees them."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = [
    'busy_milliseconds',
    'kernels',
    'kernels_by_grid',
    'longest_kernels',
    'print_launches',
]


def kernels(step: Callable[[], Any]) -> list[tuple[str, int, float]]:
    """Profile a step; return each kernel's name, calls and milliseconds, the longest first."""
    return longest_kernels(_profile(step))


def print_launches(what: str, step: Callable[[], Any], most: int | None = None) -> None:
    """Print the time of each kernel of a step, or of the longest ones."""
    print(f'  {what}:')
    for name, calls, total in kernels(step)[:most]:
        print(f'{1e3 * total:12.1f} us {calls:3d} x  {name[:90]}')


def longest_kernels(profiler: profile) -> list[tuple[str, int, float]]:
    """Return each kernel's name, calls and milliseconds in a profile, the longest first."""
    found = [
        (event.key, event.count, event.self_device_time_total / 1e3)
        for event in profiler.key_averages()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    return sorted(found, key=lambda kernel: -kernel[2])


def kernels_by_grid(step: Callable[[], Any]) -> list[tuple[str, int, float]]:
    """Profile a step as :func:`kernels` does, but keep each kernel's grids apart.

    The names end in ``[blocks along x, y, z] x threads``.
    """
    profiler = _profile(step)
    with TemporaryDirectory() as folder:
        path = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())['traceEvents']
    return by_grid(events)


def by_grid(events: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """Return :func:`kernels_by_grid` for the events of a trace, whose durations are in us."""
    times = defaultdict(list)
    for event in events:
        if event.get('cat') == 'kernel':
            grid, block = event['args']['grid'], event['args']['block']
            times[f'{event["name"][:60]} {grid} x {block[0]}'].append(event['dur'])
    found = [(name, len(each), sum(each) / 1e3) for name, each in times.items()]
    return sorted(found, key=lambda kernel: -kernel[2])


def busy_milliseconds(profiler: profile) -> float:
    """Return the milliseconds in which the GPU ran a kernel or a copy; overlaps count once."""
    return (
        union(
            (event.time_range.start, event.time_range.end)
            for event in profiler.events()
            if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
        )
        / 1e3
    )


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length that intervals cover together; overlaps count once."""
    covered, reached = 0.0, float('-inf')
    for start, end in sorted(intervals):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _profile(step: Callable[[], Any]) -> profile:
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        step()
        torch.cuda.synchronize()
    return profiler
