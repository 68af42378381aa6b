"""The model zoo as a Markdown page."""

import textwrap
from collections.abc import Iterable, Sequence

from mmv2m.utils.complexity import COUNTING_RULES

from ..markdown import markdown_table, show_figure, show_own
from ..tables import Metric, Table
from .entries import Entry, show_size

__all__ = ['build_markdown_page']

PLAIN, WITH_SCANS = COUNTING_RULES

INTRODUCTION = (
    'The tables list every row of the tables of [V2M](https://arxiv.org/abs/2410.10382), with the '
    'config that trains it in this repository. Columns without "here" are the figures that the '
    'V2M paper prints. Columns with "here" are measured in this repository; an empty cell means '
    'that nothing has been measured.',
    '- **Params** are in millions.',
    '- **FLOPs** are in G multiply-accumulates, for one image of the height and width in the '
    'column "Image". Matrix products and convolutions are counted; the column "with scans" adds '
    '9 L E N for each scan. Mask R-CNN is counted with 1,000 boxes and 100 masks.',
    '- **Metrics** are in percent. Ours are the mean ± the standard deviation (number of runs), '
    'from the records of the runs in [records/](../records).',
    '- **Weights** are those that mmpretrain and mmdet publish for their own configs, and those '
    "that the models' authors publish. [Pretrained today](pretrained.md) lists all of them with "
    'their figures. This project has published none of its own. An empty cell means that no '
    'address of a file is known. `mim download` does not check this, and fails with '
    "`AttributeError: 'float' object has no attribute 'split'`.",
)
MIM = """\
<!-- not run: needs a clone installed by pip install -e ., and the network -->
```bash
mim search mmv2m                                         # every row
mim search mmv2m --model v2m --field parameters flops    # V2M, two columns
mim download mmv2m --config deit-t_4xb256_in1k --dest .  # weights and config
```"""
COMMANDS = """\
```bash
python tools/reproduce.py --table 1 --rows V2M-T  # printed and measured figures
```

<!-- not run: ImageNet -->
```bash
python tools/reproduce.py --table 1 --rows V2M-T --run  # train (or resume), test, record
python tools/reproduce.py --table 1 --rows V2M-T --checkpoint PATH  # test your weights
```"""
MORE = (
    "[The paper's tables](reproducing.md) explains `tools/reproduce.py`. On the docs site (`make "
    'docs`), a click on the head of a column sorts the table by it. `python '
    'tools/build_model_zoo.py` writes this page.'
)


def build_markdown_page(tables: Iterable[tuple[Table, Sequence[Entry]]]) -> str:
    """The page's text.

    Args:
        tables: Tables and their entries, from :func:`.entries.zoo_entries`.
    """
    introduction, *explained = map(_paragraph, INTRODUCTION)
    parts = ['# Model zoo', introduction, '\n'.join(explained), COMMANDS, MIM, _paragraph(MORE)]
    for table, entries in tables:
        parts += [f'## {table.title}', _table(table, entries), *_notes(entries)]
    return '\n\n'.join(parts) + '\n'


def _paragraph(text: str) -> str:
    indent = '  ' if text.startswith('- ') else ''
    return textwrap.fill(
        text, 100, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent
    )


def _table(table: Table, entries: Sequence[Entry]) -> str:
    printed_flops = any(entry.report.row.flops for entry in entries)
    weights = any(entry.weights for entry in entries)
    header = ['Row', 'Kind', 'Image', 'Params', 'Params here']
    header += [*(['FLOPs'] if printed_flops else []), 'FLOPs here', 'with scans']
    for metric in table.data.metrics:
        header += [metric.name, f'{metric.name} here']
    header += ['Weights'] * weights
    return markdown_table(header, [_cells(entry, printed_flops, weights) for entry in entries])


def _cells(entry: Entry, printed_flops: bool, weights: bool) -> list[str]:
    row, cost = entry.report.row, entry.report.cost
    assert cost is not None
    cells = [f'[{row.name}](../configs/{row.config})', entry.kind, show_size(row)]
    cells += [_printed(row.params), show_figure(cost.params / 1e6)]
    cells += [_printed(row.flops)] * printed_flops
    cells += [show_figure(cost.flops[rule] / 1e9) for rule in (PLAIN, WITH_SCANS)]
    for metric in row.data.metrics:
        cells += [_printed(row.metrics.get(metric.name)), _own(entry, metric)]
    cells += [f'[weights]({entry.weights})' if entry.weights else ''] * weights
    return cells


def _printed(value: float | None) -> str:
    return '' if value is None else f'{value}'


def _own(entry: Entry, metric: Metric) -> str:
    own = entry.report.results.own.get(metric.name)
    return '' if own is None else show_own(own)


def _notes(entries: Sequence[Entry]) -> list[str]:
    notes = [f'- {e.report.row.name}: {e.report.row.note}.' for e in entries if e.report.row.note]
    return ['\n'.join(notes)] if notes else []
