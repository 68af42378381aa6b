"""Put the measurements into the pages: `python tools/benchmarks/page.py`.

docs/speed.md, docs/neighbours.md and README.md say what is measured and how to read it. Between the
marks of each benchmark, the script writes the command and the content of
records/speed/GPU/NAME.json. It also draws the plots.
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(ROOT))

from entries import CPU, ENTRIES, Entry  # noqa: E402
from neighbour_page import (  # noqa: E402
    agreement,
    brief_neighbours,
    facts_table,
    failures,
    load_facts,
    models_tables,
    operators_tables,
)
from page_tables import TABLES, brief_training_table, cpu_table  # noqa: E402

from mmv2m.engine.errors import exit_on_user_error  # noqa: E402
from mmv2m.reproduce.markdown import replace_marked  # noqa: E402

PAGE, README, NEIGHBOURS = 'docs/speed.md', 'README.md', 'docs/neighbours.md'
GPUS = {'h200': 'H200', 'h100': 'H100'}
"""The folders of records/speed/ and the GPUs' names, in the order of the pages."""

PLOTTED = 'scaling'
BESIDE = 'neighbours'
"""The name of the record of neighbours.py."""

IN_BRIEF = ('V2M-T', 'V2M-S*', 'VMamba-T', 'Swin-T', 'ConvNeXt-T', 'V2M-B*', 'Swin-S')
"""Models whose training steps README.md shows."""

NOT_MEASURED = 'not measured on this GPU'

Records = Mapping[tuple[str, str], Mapping[str, Any]]
"""The contents of the records, by GPU and entry."""


def load_records(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Read the measurements of a folder that has one folder for each GPU, and one for CPUs."""
    names = [*(entry.name for entry in ENTRIES), BESIDE]
    return {
        (gpu, name): json.loads(path.read_text())
        for gpu, of_gpu in (*((gpu, names) for gpu in GPUS), (CPU.name, [CPU.name]))
        for name in of_gpu
        if (path := folder / gpu / f'{name}.json').exists()
    }


def build_page(text: str, records: Records) -> str:
    """Return docs/speed.md with the measurements between its marks.

    Args:
        text: The page.
        records: From :func:`load_records`.

    Raises:
        UserError: If the marks of a benchmark are missing.
    """
    for entry in ENTRIES:
        parts = [_shown(entry), *(_measured(entry, gpu, records) for gpu in GPUS)]
        content = '\n' + '\n\n'.join(parts) + '\n'
        text = replace_marked(text, marks(entry.name), content, PAGE)
    content = f'\n{_shown(CPU, "takes some minutes")}\n\n{_measured_on_cpu(records)}\n'
    return replace_marked(text, marks(CPU.name), content, PAGE)


def build_neighbours(text: str, records: Records) -> str:
    """Return docs/neighbours.md with facts, and with the measurements of each measured GPU.

    Args:
        text: The page.
        records: From :func:`load_records`.

    Raises:
        UserError: If marks are missing.
    """
    parts = dict(
        models=models_tables,
        agreement=agreement,
        operators=operators_tables,
        failures=failures,
    )
    contents = {'facts': facts_table(load_facts())}
    for part, build in parts.items():
        shown = []
        for gpu in GPUS:
            measured = records.get((gpu, BESIDE))
            if measured is not None:
                shown.append(f'{_setting(measured)}:\n\n{build(measured["results"])}')
        contents[part] = '\n\n'.join(shown) or 'Not measured yet.'
    for part, content in contents.items():
        text = replace_marked(text, marks(f'{BESIDE}-{part}'), f'\n{content}\n', NEIGHBOURS)
    return text


def _setting(measured: Mapping[str, Any]) -> str:
    """Return the GPU, the versions, and the first and the last day of the measurements."""
    days = sorted({r['date'] for r in measured['results']})
    versions = f'torch {measured["torch"]}, Triton {measured["triton"]}'
    return f'{measured["device"]}, {versions}, {" to ".join(dict.fromkeys((days[0], days[-1])))}'


def build_readme(text: str, records: Records) -> str:
    """Return README.md with training steps of a few models, and models beside those of others.

    Each table comes from the first GPU on which it has been measured.

    Args:
        text: The page.
        records: From :func:`load_records`.

    Raises:
        UserError: If the marks are missing.
    """
    text = replace_marked(text, marks('training'), f'\n{_training(records)}\n', README)
    return replace_marked(text, marks(BESIDE), _beside(records), README)


def _beside(records: Records) -> str:
    """Return a few models beside those of others on the first measured GPU, or ''."""
    for gpu in GPUS:
        measured = records.get((gpu, BESIDE))
        table = None if measured is None else brief_neighbours(measured['results'])
        if measured is not None and table is not None:
            setting = '224 x 224, bfloat16 autocast; images/s, in parentheses milliseconds'
            return f'\nOn one {measured["device"]} ({setting}):\n\n{table}\n'
    return ''


def _training(records: Records) -> str:
    found = [records[gpu, 'training'] for gpu in GPUS if (gpu, 'training') in records]
    if not found:
        return 'Whole training steps have not been measured yet.'
    setting = 'tools/train.py on images in memory, 224 x 224, batch 64, bfloat16 autocast'
    return f'On one {found[0]["device"]} ({setting}):\n\n{brief_training_table(found[0], IN_BRIEF)}'


def marks(name: str) -> tuple[str, str]:
    """Return the comments that stand around the results of a benchmark."""
    return f'<!-- results of {name} -->', f'<!-- end of {name} -->'


def _shown(entry: Entry, why_not_run: str = 'needs a GPU') -> str:
    """Return the command as a block."""
    lines = textwrap.wrap(entry.shown(), 94, break_long_words=False, break_on_hyphens=False)
    command = ' \\\n    '.join(lines)
    return f'<!-- not run: {why_not_run} -->\n```bash\n{command}\n```'


def _measured(entry: Entry, gpu: str, records: Records) -> str:
    """Return the results on one GPU, or a sentence that says that there are none."""
    measured = records.get((gpu, entry.name))
    if measured is None:
        return f'{GPUS[gpu]}: {NOT_MEASURED}.'
    versions = f'torch {measured["torch"]}, Triton {measured["triton"]}, {measured["date"]}'
    parts = [f'{measured["device"]}, {versions}:', TABLES[entry.name](measured, gpu)]
    if entry.name == PLOTTED:
        parts.append(f'![Time and memory by image size]({_plot(gpu)})')
    return '\n\n'.join(parts)


def _measured_on_cpu(records: Records) -> str:
    measured = records.get((CPU.name, CPU.name))
    if measured is None:
        return 'Not measured yet.'
    device = f'{measured["device"]}, {measured["threads"]} threads'
    return f'{device}, torch {measured["torch"]}, {measured["date"]}:\n\n{cpu_table(measured)}'


def _plot(gpu: str) -> str:
    """Return the path of the plot, relative to docs/."""
    return f'images/{PLOTTED}-{gpu}.png'


def draw_plots(records: Records) -> None:
    """Draw the plots that the page shows."""
    for gpu in GPUS:
        if (gpu, PLOTTED) in records:
            from scaling import draw

            draw(records[gpu, PLOTTED]['results'], str(ROOT / 'docs' / _plot(gpu)))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages, or check them, as the command line says.

    Returns:
        The exit status: 1 if a page is checked and is out of date.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing; say what would change')
    args = parser.parse_args(argv)
    records = load_records(ROOT / 'records' / 'speed')
    stale = False
    pages = ((PAGE, build_page), (README, build_readme), (NEIGHBOURS, build_neighbours))
    for name, build in pages:
        path = ROOT / name
        with exit_on_user_error():
            text = build(path.read_text(), records)
        if text != path.read_text():
            stale = True
            print(f'{name} {"is stale" if args.check else "written"}')
            if not args.check:
                path.write_text(text)
    if not args.check:
        draw_plots(records)
    return int(args.check and stale)


if __name__ == '__main__':
    sys.exit(main())
