"""All measurements of docs/speed.md: `python tools/benchmarks/suite.py --out records/speed/h200`.

Runs each benchmark as a process of its own and leaves NAME.json and, with what was printed,
NAME.log in the folder. What has its JSON already is skipped: stopped at any time, the same command
goes on where it was. What cannot run here is named and left out; what fails or takes too long is
named at the end.
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
    """Benchmarks and where their results go.

    Attributes:
        out: The folder of the results.
        clones: Where the official repositories are, by name.
        again: Whether to measure what has been measured.
    """

    out: Path
    clones: Mapping[str, Path]
    again: bool = False

    def result(self, entry: Entry) -> Path:
        """The file that says that an entry is done."""
        return self.out / f'{entry.name}.json'

    def obstacle(self, entry: Entry) -> str | None:
        """Why an entry cannot run here."""
        missing = [name for name in entry.needs if importlib.util.find_spec(name) is None]
        if missing:
            return f'it needs {", ".join(missing)}'
        if entry.clone is not None and not self.clones[entry.clone].is_dir():
            option = f'--{entry.clone.lower()}'
            return f'it needs a clone of the official {entry.clone}: give its path as {option}'
        return None

    def state(self, entry: Entry) -> str:
        """What :meth:`run` would do with an entry."""
        if self.result(entry).exists() and not self.again:
            return 'done'
        obstacle = self.obstacle(entry)
        return 'to do' if obstacle is None else f'left out: {obstacle}'

    def run(self, entry: Entry) -> str | None:
        """Run an entry; what went wrong, or None.

        The script writes to another file, which gets its name when all has been measured.
        """
        part = self.out / f'{entry.name}.part.json'
        part.unlink(missing_ok=True)
        command = [*self.command(entry), '--out', str(part)]
        try:
            with (self.out / f'{entry.name}.log').open('w') as log:
                subprocess.run(
                    command,
                    cwd=ROOT,
                    env={**os.environ, 'PYTHONUNBUFFERED': '1'},  # the log grows as it is printed
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
        """Of an entry's process, without ``--out``."""
        clone = None if entry.clone is None else str(self.clones[entry.clone])
        script, *arguments = entry.command(clone)
        return [sys.executable, str(FOLDER / script), *arguments]


def run_all(suite: Suite, entries: Sequence[Entry]) -> dict[str, str]:
    """Run what is to do, one after the other; what went wrong, by name."""
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
    parser.add_argument('--list', action='store_true', help='say what is to do, and do nothing')
    parser.add_argument('--again', action='store_true', help='measure also what has been measured')
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
    """Run or list what the command line says.

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
