"""Reports of rows as Markdown, and the update of pages with them."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from mmv2m.engine.errors import UserError
from mmv2m.utils.complexity import COUNTING_RULES

from .estimate import GPU_COUNTS, Estimate
from .report import RowReport
from .results import Own
from .tables import Metric, Table

__all__ = [
    'as_markdown',
    'markdown_table',
    'replace_marked',
    'show_figure',
    'show_own',
    'with_difference',
]

PLAIN, WITH_SCANS = COUNTING_RULES

LEGEND = (
    'Cells are printed / here. Params are in millions. FLOPs are in G multiply-accumulates of '
    'matrix products and convolutions, with or without 9 L E N for each scan, as the printed '
    'figure counts them; [ ] has the other count. Metrics are in percent; ours are mean ± standard '
    "deviation (number of runs), and † marks tests of others' weights. Hours are a lower bound: "
    "they assume the speed of this GPU's training step at its share of the recipe's batch, and no "
    'waiting for data or for other GPUs.'
)


def as_markdown(reports: Sequence[RowReport]) -> str:
    """All tables, each with its obstacles below, and a legend."""
    parts = [_table(table, list(rows)) for table, rows in groupby(reports, key=lambda r: r.table)]
    return '\n\n'.join([*parts, LEGEND]) + '\n'


def _table(table: Table, reports: Sequence[RowReport]) -> str:
    timed = any(report.estimates for report in reports)
    header = ['Row', 'Config', 'Params', 'FLOPs', *(metric.name for metric in table.data.metrics)]
    if timed:
        header += ['Images/s', *(f'{n} GPU{"s" * (n > 1)}' for n in GPU_COUNTS)]
    rows = [_cells(report, timed) for report in reports]
    if any(report.obstacles for report in reports):
        header.append('Missing')
        for cells, report in zip(rows, reports, strict=True):
            cells.append(', '.join(dict.fromkeys(o.kind for o in report.obstacles)))
    lines = [f'### {table.title}', '', markdown_table(header, rows)]
    return '\n'.join([*lines, *_remarks(reports)])


def _cells(report: RowReport, timed: bool) -> list[str]:
    row, cost = report.row, report.cost
    params = None if cost is None else cost.params / 1e6
    rule = WITH_SCANS if row.flops_with_scans else PLAIN
    flops = None if cost is None else cost.flops[rule] / 1e9
    other = '' if cost is None else _other_rule(cost.flops, rule)
    metrics = [_metric(report, metric) for metric in row.data.metrics]
    cells = [row.name, row.config, with_difference(row.params, params)]
    cells += [with_difference(row.flops, flops) + other, *metrics]
    if timed:
        estimates = list(report.estimates) or [Estimate(n) for n in GPU_COUNTS]
        speed = estimates[0].images_per_second
        cells += ['' if speed is None else f'{speed:,.0f}', *map(_hours, estimates)]
    return cells


def _other_rule(flops: dict[str, int], rule: str) -> str:
    """FLOPs by the rule that the printed figure does not follow, in brackets, if they differ."""
    if flops[PLAIN] == flops[WITH_SCANS]:
        return ''
    return f' [{show_figure(flops[PLAIN if rule == WITH_SCANS else WITH_SCANS] / 1e9)}]'


def show_figure(value: float) -> str:
    """A figure with two decimals, or with two digits if it is below 0.1."""
    return f'{value:.2f}' if value >= 0.1 else f'{value:.2g}'


def with_difference(printed: float | None, here: float | None) -> str:
    """``printed / here (difference)``, with a dash for a missing figure."""
    shown = '–' if printed is None else f'{printed}'
    if here is None:
        return f'{shown} / –'
    difference = '' if printed is None else f' ({here - printed:+.2f})'
    return f'{shown} / {show_figure(here)}{difference}'


def _metric(report: RowReport, metric: Metric) -> str:
    printed = report.row.metrics.get(metric.name)
    own = report.results.own.get(metric.name)
    return f'{"–" if printed is None else printed} / {"–" if own is None else show_own(own)}'


def show_own(own: Own) -> str:
    """Format the figures of own runs: mean, standard deviation and number of runs."""
    spread = '' if own.std is None else f' ± {own.std:.2f}'
    return f'{own.mean:.2f}{spread} ({len(own.values)}){"" if own.trained else " †"}'


def _hours(estimate: Estimate) -> str:
    if estimate.hours is None or estimate.gpu_hours is None:
        return '–'
    total = '' if estimate.gpus == 1 else f' ({estimate.gpu_hours:,.0f} GPU-h)'
    return f'{estimate.hours:,.1f} h{total}'


def _remarks(reports: Iterable[RowReport]) -> list[str]:
    """Obstacles, records that do not count, and notes. Each comes once, with its rows."""
    rows: dict[str, list[str]] = {}
    total = 0
    for report in reports:
        total += 1
        remarks = [
            *([report.row.note] if report.row.note else []),
            *([f'starts from weights of {report.row.init}'] if report.row.init else []),
            *(f'{obstacle.kind}: {obstacle.message}' for obstacle in report.obstacles),
            *report.results.left_out,
            *(f'{e.gpus} GPUs: {e.problem}' for e in report.estimates if e.problem),
        ]
        for remark in dict.fromkeys(remarks):
            rows.setdefault(remark, []).append(report.row.name)
    lines = [
        f'- {"all rows" if len(names) == total > 1 else ", ".join(names)}: {remark}'
        for remark, names in rows.items()
    ]
    return ['', *lines] if lines else []


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded cells, so that its columns line up in a terminal too."""
    escaped = [[cell.replace('|', '\\|') for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    lines = [
        '| ' + ' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + ' |'
        for row in escaped
    ]
    lines.insert(1, '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    return '\n'.join(lines)


def replace_marked(text: str, marks: tuple[str, str], content: str, page: str) -> str:
    """The text of a page with new content between two marks.

    Args:
        text: Text of the page.
        marks: The marks in front of the content and behind it.
        content: The new content, in Markdown.
        page: Name of the page in an error.

    Raises:
        UserError: If a mark is missing.
    """
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise UserError(f'{page} needs the marks {" and ".join(marks)} around its results')
    return f'{before}{begin}\n{content}\n{end}{after}'
