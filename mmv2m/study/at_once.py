"""Several runs of a study at a time, as processes that share the GPUs."""

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
"""Seconds between two checks of the processes."""


class Job(NamedTuple):
    """A run that has started: its process, and the file with the output of the process."""

    run: Run
    process: subprocess.Popen
    log: Path


def train_at_once(
    runs: Iterator[Run],
    command: Callable[[Run], Sequence[str]],
    logs: Path,
    slots: Sequence[str | None],
) -> int:
    """Run a process for each run, and one process in each slot at a time.

    When a process ends, the last line of its output is printed. If this function is interrupted, it
    ends the processes and all that they have started.

    Args:
        runs: The runs. The next one is taken from the iterator when a slot is free.
        command: Function that gives the command line of a run.
        logs: Folder with one file for the output of each process.
        slots: CUDA_VISIBLE_DEVICES of the processes in each slot; None leaves this process's value.

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
    """The GPU of each process, in turn; None without GPUs."""
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
