"""All measurements of docs/speed.md: `python tools/benchmarks/suite.py --out records/speed/h200`.

The script runs each benchmark as a process of its own. It leaves NAME.json in the folder, and
NAME.log with what the benchmark has printed. A benchmark that has its JSON already is skipped, so
the same command continues a run that was stopped. Benchmarks that cannot run here are named and
left out; those that fail or take too long are named at the end.
"""

import argparse
import importlib.util
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from entries import ENTRIES, Entry, select

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]


@dataclass(frozen=True)
class Suite:
    """A run of the benchmarks that writes their results to a folder.

    Attributes:
        out: The folder of the results.
        clones: Folders of the official repositories by name.
        again: Whether to repeat benchmarks that have results.
    """

    out: Path
    clones: Mapping[str, Path]
    again: bool = False

    def result(self, entry: Entry) -> Path:
        """Return the file of an entry's results; it exists if the entry is done."""
        return self.out / f'{entry.name}.json'

    def obstacle(self, entry: Entry) -> str | None:
        """Return why an entry cannot run here, or None if it can."""
        missing = [name for name in entry.needs if importlib.util.find_spec(name) is None]
        if missing:
            return f'it needs {", ".join(missing)}'
        if entry.clone is not None and not self.clones[entry.clone].is_dir():
            option = f'--{entry.clone.lower()}'
            return f'it needs a clone of the official {entry.clone}: give its path as {option}'
        return None

    def state(self, entry: Entry) -> str:
        """Return ``'done'``, ``'to do'``, or why :meth:`run` would leave the entry out."""
        if self.result(entry).exists() and not self.again:
            return 'done'
        obstacle = self.obstacle(entry)
        return 'to do' if obstacle is None else f'left out: {obstacle}'

    def run(self, entry: Entry) -> str | None:
        """Run an entry, and return what went wrong, or None.

        The script writes to another file, which is renamed when everything has been measured.
        """
        part = self.out / f'{entry.name}.part.json'
        part.unlink(missing_ok=True)
        command = [*self.command(entry), '--out', str(part)]
        try:
            with (self.out / f'{entry.name}.log').open('w') as log:
                subprocess.run(
                    command,
                    cwd=ROOT,
                    env={**os.environ, 'PYTHONUNBUFFERED': '1'},  # prints reach the log at once
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=entry.limit,
                    check=True,
                )
        except subprocess.TimeoutExpired:
            return f'took more than its {entry.limit} s'
        except subprocess.CalledProcessError as error:
            return f'exit status {error.returncode}'
        if not part.exists():
            return 'wrote no results'
        part.replace(self.result(entry))
        return None

    def command(self, entry: Entry) -> list[str]:
        """Return the command of an entry's process, without ``--out``."""
        clone = None if entry.clone is None else str(self.clones[entry.clone])
        script, *arguments = entry.command(clone)
        return [sys.executable, str(FOLDER / script), *arguments]


def run_all(suite: Suite, entries: Sequence[Entry]) -> dict[str, str]:
    """Run the benchmarks without results one after the other; return the failures by name."""
    suite.out.mkdir(parents=True, exist_ok=True)
    problems = {}
    for number, entry in enumerate(entries, 1):
        state = suite.state(entry)
        print(f'[{number}/{len(entries)}] {entry.name}: {state}', flush=True)
        if state != 'to do':
            continue
        print(f'    {shlex.join(suite.command(entry))}', flush=True)
        start = time.monotonic()
        problem = suite.run(entry)
        print(f'    {problem or "done"}, {time.monotonic() - start:.0f} s', flush=True)
        if problem:
            problems[entry.name] = problem
            lines = (suite.out / f'{entry.name}.log').read_text(errors='replace').splitlines()
            print('\n'.join(f'    | {line}' for line in lines[-12:]), flush=True)
    return problems


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    parser.add_argument(
        '--only', nargs='+', metavar='NAME', help='benchmarks, or groups of them such as official'
    )
    parser.add_argument('--list', action='store_true', help='list what would run, and run nothing')
    parser.add_argument('--again', action='store_true', help='repeat finished measurements')
    for name in ('Vim', 'VMamba'):
        parser.add_argument(
            f'--{name.lower()}',
            type=Path,
            default=ROOT.parent / name,
            help=f"clone of the official repository; default: {name} beside this clone's folder",
        )
    args = parser.parse_args(argv)
    try:
        args.entries = select(ENTRIES, args.only)
    except ValueError as error:
        parser.error(str(error))
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run or list the benchmarks of the command line.

    Returns:
        The exit status: 1 if a benchmark failed.
    """
    args = parse_args(argv)
    clones = dict(Vim=args.vim.resolve(), VMamba=args.vmamba.resolve())
    suite = Suite(args.out.resolve(), clones, args.again)
    if args.list:
        for entry in args.entries:
            print(f'{entry.name:18}{suite.state(entry)}\n    {entry.shown()}')
        return 0
    problems = run_all(suite, args.entries)
    for name, problem in problems.items():
        print(f'FAILED {name}: {problem}')
    return int(bool(problems))


if __name__ == '__main__':
    sys.exit(main())
