"""The model zoo as a Markdown page."""

import textwrap
from collections.abc import Iterable, Sequence

from mmv2m.utils.complexity import COUNTING_RULES

from ..markdown import markdown_table, show_figure, show_own
from ..tables import Metric, Table
from .entries import INTRODUCTION, Entry, show_size

__all__ = ['build_markdown_page']

PLAIN, WITH_SCANS = COUNTING_RULES

WEIGHTS = (
    'Weights are those that mmpretrain and mmdet publish for the configs that are theirs, and '
    "those that the models' authors publish ([pretrained.md](pretrained.md) has them all, with "
    'what they reach), not our own. Where the column is empty no address of a file is known, and '
    'there mim, which does not look, fails with '
    "`AttributeError: 'float' object has no attribute 'split'`."
)
MIM = """\
<!-- not run: needs a clone installed by pip install -e ., and the network -->
```bash
mim search mmv2m                                         # all of this
mim search mmv2m --model v2m --field parameters flops    # a part of it
mim download mmv2m --config deit-t_4xb256_in1k --dest .  # weights, and their config
```"""
COMMANDS = """\
```bash
python tools/reproduce.py --table 1 --rows V2M-T  # printed and measured, and what training costs
```

<!-- not run: ImageNet -->
```bash
python tools/reproduce.py --table 1 --rows V2M-T --run  # train, or go on; test; record the result
python tools/reproduce.py --table 1 --rows V2M-T --checkpoint PATH  # test your weights
```"""
MORE = (
    '[reproducing.md](reproducing.md) explains this command: what it prints, what counts as a '
    'result, how a run goes on where it stopped, how hours are estimated.'
)
HTML = (
    'The same with sortable columns and plots: [model_zoo.html](model_zoo.html). Both pages are '
    'made by `python tools/build_model_zoo.py`.'
)


def build_markdown_page(tables: Iterable[tuple[Table, Sequence[Entry]]]) -> str:
    """The page's text.

    Args:
        tables: From :func:`.entries.zoo_entries`.
    """
    parts = ['# Model zoo', _paragraph(INTRODUCTION), COMMANDS]
    parts += [_paragraph(MORE), _paragraph(WEIGHTS), MIM, _paragraph(HTML)]
    for table, entries in tables:
        parts += [f'## {table.title}', _table(table, entries), *_notes(entries)]
    return '\n\n'.join(parts) + '\n'


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _table(table: Table, entries: Sequence[Entry]) -> str:
    printed_flops = any(entry.report.row.flops for entry in entries)
    weights = any(entry.weights for entry in entries)
    header = ['Row', 'Kind', 'Image', 'Params', 'here']
    header += ['FLOPs', *(['here'] if printed_flops else []), 'with scans']
    for metric in table.data.metrics:
        header += [metric.name, 'here']
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
