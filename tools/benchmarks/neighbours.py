"""V2M beside its neighbours: `python tools/benchmarks/neighbours.py --clones FOLDER`.

The script measures models (at 224 and 512) and operators (from 32 x 32 to 1,024 x 1,024 tokens):
ours, timm's, and official code from clones of the repositories in FOLDER. The clones are Mamba2D,
MambaVision, VMamba, Vim and 2DMamba, each in a folder of that name. Each runs eagerly, as a CUDA
graph and under torch.compile, in inference and in training, under bfloat16 autocast on one GPU.

Each model or operator has a process of its own with a time limit. If it cannot be built or takes
too long, the reason is recorded, and the others go on. While one is measured, the next are
imported, and those with CUDA code are compiled. Each result is written to the file at once, and
replaces the result of the same name, size and mode, so that a run may be made in pieces. `python
tools/benchmarks/page.py` writes docs/neighbours.md.
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from cpu import cpu_name
from machine import gpu_name
from neighbour_cases import KINDS, MODELS, OPERATORS
from results import Results

FOLDER = Path(__file__).resolve().parent
BUILT = Path(tempfile.gettempdir()) / 'mmv2m-neighbours'
"""Where PyTorch keeps the official CUDA code that it has compiled."""

MODES = ('eager', 'graph', 'compile')
KEY = ('kind', 'name', 'mode', 'size', 'training')
"""The keys that have equal values in two results of one place."""


class Merged(Results):
    """Results that replace a file's results of the same kind, name, mode, size and direction.

    Args:
        path: Path of the file, or None for no file.
        device: Name of the measured device.

    Raises:
        ValueError: If the file has results of another device, PyTorch version or Triton version.
    """

    def __init__(self, path: Path | None, device: str) -> None:
        super().__init__(None if path is None else str(path), device)
        if path is None or not path.exists():
            return
        found = json.loads(path.read_text())
        for key, value in self.content().items():
            if key in ('device', 'torch', 'triton') and found[key] != value:
                raise ValueError(
                    f'{path} is of {key} {found[key]}, not {value}; give another --out'
                )
        self.extend(found['results'])

    def append(self, measurement: dict[str, Any]) -> None:
        """Add a measurement in the place of the one with the same keys, and write the file.

        A failure of a whole case, whose mode is None, is removed when the case is measured.
        """
        kept = [r for r in self if not _replaces(measurement, r)]
        self[:] = sorted([*kept, measurement], key=_place)
        self.write()


def _place(r: Mapping[str, Any]) -> tuple[int, int]:
    """Return a result's place in the order of neighbour_cases.py; unknown names come last."""
    names = list(KINDS[r['kind']])
    return list(KINDS).index(r['kind']), names.index(r['name']) if r['name'] in names else len(
        names
    )


def _replaces(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    if any(new[key] != old[key] for key in ('kind', 'name')):
        return False
    return old['mode'] is None or all(new[key] == old[key] for key in KEY)


class Process:
    """A process of its own for one model or operator.

    Args:
        task: The task that neighbour_runs.py takes.
        log: File that receives the process's standard error.
    """

    def __init__(self, task: Mapping[str, Any], log: Path) -> None:
        self.log = log
        with log.open('w') as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(FOLDER / 'neighbour_runs.py'), json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={'TORCH_EXTENSIONS_DIR': str(BUILT), **os.environ},
                start_new_session=True,  # so that its compilers can be stopped with it
            )
        self.began = time.monotonic()
        self.ready = threading.Event()
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, stream: Iterable[str]) -> None:
        for line in stream:
            self.lines.put(line)
            self.ready.set()  # ready to measure, or failed with a message
        self.lines.put(None)
        self.ready.set()

    def messages(self, end: float) -> Iterator[dict[str, Any]]:
        """Yield the measurements up to the time ``end``, and a failure if the process reports one.

        Raises:
            TimeoutError: If the process has not ended by then.
        """
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise TimeoutError from None
            if line is None:
                if self.process.wait():
                    yield dict(failure=self._last_words())
                return
            message = json.loads(line)
            if not message.pop('ready', False):
                yield message
                continue
            assert self.process.stdin is not None
            self.process.stdin.write('\n')
            self.process.stdin.flush()

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors='replace').splitlines()]
        words = [line for line in lines if line]
        return f'exit status {self.process.returncode}: {words[-1] if words else ""}'[:200]

    def stop(self) -> None:
        """End the process and the processes that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Run:
    """Tasks that are measured one after the other, while the next ones are prepared.

    Args:
        plan: The tasks, the most important first.
        results: The results that receive the measurements.
        ahead: How many tasks without CUDA code to compile are prepared at a time.
        limit: Seconds that a task may take to be prepared, and as many to be measured.
        budget: Seconds for all tasks together.
    """

    def __init__(
        self,
        plan: Sequence[dict[str, Any]],
        results: Merged,
        ahead: int,
        limit: float,
        budget: float,
    ) -> None:
        self.waiting = list(plan)
        self.results, self.ahead, self.limit = results, ahead, limit
        self.end = time.monotonic() + budget
        self.folder = tempfile.TemporaryDirectory()
        self.processes: dict[int, Process] = {}

    def go(self) -> list[str]:
        """Measure the tasks, and return the names of those that the budget has left out."""
        try:
            while self.waiting and time.monotonic() < self.end:
                self._start()
                task = self._next()
                if task is None:
                    time.sleep(0.02)
                    continue
                if self._measure(task):
                    self.waiting.remove(task)
        finally:
            for process in self.processes.values():
                process.stop()
            self.folder.cleanup()
        return [f'{task["kind"]}: {task["name"]}' for task in self.waiting]

    def _start(self) -> None:
        """Start all tasks with code to compile, and the next ``ahead`` others."""
        others = 0
        for task in self.waiting:
            compiles = KINDS[task['kind']][task['name']].compiles
            others += not compiles
            if id(task) not in self.processes and (compiles or others <= self.ahead):
                log = Path(self.folder.name) / f'{len(self.processes)}-{id(task)}.log'
                self.processes[id(task)] = Process(task, log)

    def _next(self) -> dict[str, Any] | None:
        """Return the first task that is ready, or that has used up its time to become ready."""
        for task in self.waiting:
            process = self.processes.get(id(task))
            if process is None:
                continue
            if process.ready.is_set() or time.monotonic() - process.began > self.limit:
                return task
        return None

    def _measure(self, task: Mapping[str, Any]) -> bool:
        """Keep a task's measurements, and tell whether it ended before the budget did."""
        where: dict[str, Any] = dict(kind=task['kind'], name=task['name'])
        process = self.processes.pop(id(task))
        start = time.monotonic()
        late = not process.ready.is_set()
        end = start if late else min(start + self.limit, self.end)
        try:
            for message in process.messages(end):
                self._keep({**where, 'mode': None, **message})
        except TimeoutError:
            process.stop()
            if not late and end == self.end:
                return False
            self._keep({**where, 'mode': None, 'failure': f'took more than {self.limit:.0f} s'})
        process.stop()
        print(f'    {where["name"]}: {time.monotonic() - start:.1f} s', flush=True)
        return True

    def _keep(self, message: dict[str, Any]) -> None:
        message = {'size': None, 'training': None, **message, 'date': date.today().isoformat()}
        self.results.append(message)
        print(shown(message), flush=True)


def shown(r: Mapping[str, Any]) -> str:
    """Format a result as a line."""
    what = '' if r['mode'] is None else f'{r["mode"]}, {"training" if r["training"] else "forward"}'
    head = f'{r["name"]:38}{r["size"] or "":>6}  {what:18}'
    if 'failure' in r:
        return f'{head} {r["failure"]}'
    peak = '' if r['peak_gib'] is None else f'{r["peak_gib"]:8.2f} GiB'
    return f'{head}{r["milliseconds"]:10.2f} ms{r["images_per_second"]:10.0f}/s{peak}'


def tasks(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the tasks in the order of the command line."""
    shared = dict(modes=args.modes, device=args.device, batch=args.batch, rep=args.rep)
    shared.update(clones=str(args.clones.resolve()), arch=_architecture(args.device))
    kinds = (('models', args.models, args.sizes), ('operators', args.operators, args.grids))
    return [
        dict(kind=kind, name=name, sizes=sizes, **shared)
        for kind, names, sizes in kinds
        for name in names
    ]


def _architecture(device: str) -> str:
    """Return the compute capability of the GPU, the only one that code is compiled for."""
    if device == 'cpu':
        return '9.0'
    return '.'.join(map(str, torch.cuda.get_device_capability()))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--clones', type=Path, required=True, help='folder of the clones')
    parser.add_argument('--models', nargs='*', default=list(MODELS), choices=list(MODELS))
    parser.add_argument('--operators', nargs='*', default=list(OPERATORS), choices=list(OPERATORS))
    parser.add_argument('--sizes', nargs='+', type=int, default=[224, 512], help='sides of images')
    parser.add_argument(
        '--grids',
        nargs='+',
        type=int,
        default=[32, 64, 128, 256, 512, 1024],
        help="sides of operators' maps",
    )
    parser.add_argument('--modes', nargs='+', default=list(MODES), choices=list(MODES))
    parser.add_argument(
        '--batch',
        type=int,
        help='default: 128 images up to 256 x 256, then 32; maps with 65,536 tokens, or one map',
    )
    parser.add_argument('--device', default='cuda', choices=['cuda', 'cpu'])
    parser.add_argument('--rep', type=int, default=200, help='ms per measurement; steps on a CPU')
    parser.add_argument('--ahead', type=int, default=3, help='processes to prepare ahead')
    parser.add_argument('--limit', type=float, default=300, help='seconds for each process')
    parser.add_argument(
        '--budget-seconds', type=float, default=float('inf'), help='limit of the run'
    )
    parser.add_argument('--out', type=Path, help='add the results to this JSON file')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for, and print it.

    Returns:
        The exit status: 1 if nothing could be measured.
    """
    args = parse_args(argv)
    device = gpu_name() if args.device == 'cuda' else cpu_name()
    try:
        results = Merged(args.out, device)
    except ValueError as problem:
        sys.exit(f'error: {problem}')
    print(f'{device}, torch {torch.__version__}, bf16 autocast', flush=True)
    for lock in BUILT.glob('**/lock'):  # PyTorch would wait for the locks of a stopped run
        lock.unlink()
    left = Run(tasks(args), results, args.ahead, args.limit, args.budget_seconds).go()
    if left:
        print(f'left out, for the budget: {"; ".join(left)}')
    return int(all('failure' in r for r in results))


if __name__ == '__main__':
    sys.exit(main())
