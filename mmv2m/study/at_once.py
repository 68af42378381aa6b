"""Several runs of a study at a time, each a process of its own, shared out over the GPUs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from .plan import Run

__all__ = ['gpus_of_slots', 'train_at_once']

POLL = 0.2
"""Seconds between two looks at the processes."""


class Job(NamedTuple):
    """A run under way: its process, and the file that has what this prints."""

    run: Run
    process: subprocess.Popen
    log: Path


def train_at_once(
    runs: Iterator[Run],
    command: Callable[[Run], Sequence[str]],
    logs: Path,
    slots: Sequence[str | None],
) -> int:
    """Run a process for each run, as many at a time as there are slots.

    The last line of what a process prints is said when it ends. If this is interrupted, the
    processes are ended, with all that they have started.

    Args:
        runs: The runs; the next one is asked for when there is a slot for it.
        command: A run's command line.
        logs: Folder for a file a run with what its process prints.
        slots: For each, what the process finds in CUDA_VISIBLE_DEVICES; None for what this one
            has.

    Returns:
        How many processes failed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    jobs: dict[int, Job] = {}
    failed, more = 0, True
    try:
        while more or jobs:
            for slot, gpu in enumerate(slots):
                if more and slot not in jobs:
                    run = next(runs, None)
                    more = run is not None
                    if run is not None:
                        jobs[slot] = _start(run, command(run), logs, gpu)
            time.sleep(POLL)
            for slot in [slot for slot, job in jobs.items() if job.process.poll() is not None]:
                failed += not _has_succeeded(jobs.pop(slot))
    finally:
        for job in jobs.values():
            os.killpg(job.process.pid, signal.SIGTERM)
            job.process.wait()
    return failed


def gpus_of_slots(at_once: int) -> list[str | None]:
    """The GPU of each of so many processes, in turn; None where there is none."""
    chosen = os.environ.get('CUDA_VISIBLE_DEVICES')
    gpus = chosen.split(',') if chosen else [str(i) for i in range(torch.cuda.device_count())]
    return [gpus[i % len(gpus)] if gpus else None for i in range(at_once)]


def _start(run: Run, command: Sequence[str], logs: Path, gpu: str | None) -> Job:
    log = logs / f'{run.config.stem}_seed{run.seed}.txt'
    environment = os.environ if gpu is None else {**os.environ, 'CUDA_VISIBLE_DEVICES': gpu}
    with log.open('wb') as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    return Job(run, process, log)


def _has_succeeded(job: Job) -> bool:
    lines = job.log.read_text(errors='replace').splitlines()
    print(lines[-1] if lines else f'{job.run.name}: ended without a word', flush=True)
    if job.process.returncode:
        print(f'{job.run.name}: failed; all that it said is in {job.log}', file=sys.stderr)
    return job.process.returncode == 0
