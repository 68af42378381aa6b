"""The model zoo as one static HTML page: sortable tables, plots, nothing to load from elsewhere."""

import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from mmv2m.utils.complexity import COUNTING_RULES

from ..markdown import show_figure, show_own
from ..tables import Table
from .entries import INTRODUCTION, Entry, show_size
from .scatter import Point, draw_scatter

__all__ = ['build_html_page']

PLAIN, WITH_SCANS = COUNTING_RULES
COLOURS = {'ConvNet': '#2e7d32', 'Transformer': '#b26a00', 'SSM': '#1565c0', 'V2M': '#c2185b'}
FOLDER = Path(__file__).parent


def build_html_page(tables: Sequence[tuple[Table, Sequence[Entry]]]) -> str:
    """The page's text.

    Args:
        tables: From :func:`.entries.zoo_entries`.
    """
    style, script = ((FOLDER / f'page.{kind}').read_text() for kind in ('css', 'js'))
    colours = ''.join(f'.{kind} {{ color: {colour}; }}\n' for kind, colour in COLOURS.items())
    sections = '\n'.join(_section(table, entries) for table, entries in tables)
    links = ' · '.join(
        f'<a href="#{_anchor(table)}">{escape(table.title)}</a>' for table, _ in tables
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Model zoo of mmv2m</title>
<style>
{style}{colours}</style>
</head>
<body>
<h1>Model zoo</h1>
<p>{_links(INTRODUCTION)} Click a column's head to sort by it.</p>
<p>{links}</p>
{sections}
<script>
{script}</script>
</body>
</html>
"""


def _section(table: Table, entries: Sequence[Entry]) -> str:
    columns = [column for column in zip(*map(_columns, entries), strict=True) if _is_filled(column)]
    head = ''.join(f'<th scope="col" tabindex="0">{escape(cells[0][0])}</th>' for cells in columns)
    rows = '\n'.join(
        f'<tr>{"".join(_cell(*cell) for cell in row)}</tr>' for row in zip(*columns, strict=True)
    )
    notes = ''.join(
        f'<li>{escape(f"{e.report.row.name}: {e.report.row.note}")}</li>'
        for e in entries
        if e.report.row.note
    )
    return f"""<section id="{_anchor(table)}">
<h2>{escape(table.title)}</h2>
{_plot(table, entries)}<div class="wide"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
{f'<ul>{notes}</ul>' if notes else ''}</section>"""


def _is_filled(column: Sequence[tuple[str, str, float | None]]) -> bool:
    """Whether any row has something in it."""
    return any(html for _, html, _ in column)


def _columns(entry: Entry) -> Iterator[tuple[str, str, float | None]]:
    """A row's cells: the column's head, HTML, and what it is sorted by (None: by its text)."""
    row, cost = entry.report.row, entry.report.cost
    assert cost is not None
    config = f'<a class="{entry.kind}" href="../configs/{row.config}">{escape(row.name)}</a>'
    yield 'Row', config, None
    yield 'Kind', entry.kind, None
    yield 'Image', show_size(row), math.prod(row.size)
    yield 'Params', *_number(row.params)
    yield 'Params, here', show_figure(cost.params / 1e6), cost.params
    yield 'FLOPs', *_number(row.flops)
    for rule, name in ((PLAIN, 'FLOPs, here'), (WITH_SCANS, 'with scans')):
        yield name, show_figure(cost.flops[rule] / 1e9), cost.flops[rule]
    for metric in row.data.metrics:
        yield metric.name, *_number(row.metrics.get(metric.name))
        own = entry.report.results.own.get(metric.name)
        shown = ('', None) if own is None else (escape(show_own(own)), own.mean)
        yield f'{metric.name}, here', *shown
    weights = f'<a href="{escape(entry.weights)}">weights</a>' if entry.weights else ''
    yield 'Weights', weights, None


def _number(value: float | None) -> tuple[str, float | None]:
    return ('', None) if value is None else (f'{value}', value)


def _cell(name: str, html: str, value: float | None) -> str:
    if value is not None:
        return f'<td class="number" data-value="{value}">{html}</td>'
    return f'<td>{html}</td>'


def _plot(table: Table, entries: Sequence[Entry]) -> str:
    """The first metric over FLOPs, printed and own; nothing where there are fewer than two."""
    metric = table.data.metrics[0]
    points = []
    for entry in entries:
        row, cost, own = entry.report.row, entry.report.cost, entry.report.results.own
        assert cost is not None
        flops = cost.flops[WITH_SCANS if row.flops_with_scans else PLAIN] / 1e9
        if metric.name in row.metrics:
            points.append(Point(flops, row.metrics[metric.name], row.name, entry.kind))
        if metric.name in own:
            points.append(Point(flops, own[metric.name].mean, row.name, entry.kind, own=True))
    if len(points) < 2:
        return ''
    plot = draw_scatter(points, COLOURS, 'FLOPs (G), measured', f'{metric.label} (%)')
    key = ' '.join(f'<span class="{kind}">○ {kind}</span>' for kind in COLOURS)
    caption = f'{key} ○ printed ● here. {escape(_counted(entries))}'
    return f'<figure>\n{plot}\n<figcaption>{caption}</figcaption>\n</figure>\n'


def _counted(entries: Sequence[Entry]) -> str:
    """By which rule a plot's FLOPs are counted."""
    with_scans = [e.report.row.name for e in entries if e.report.row.flops_with_scans]
    if not with_scans:
        return 'FLOPs are those without scans.'
    return (
        'FLOPs are counted as the printed ones are: with scans those of '
        f'{", ".join(with_scans)}, without scans all others.'
    )


def _anchor(table: Table) -> str:
    return re.sub(r'[^a-z0-9]+', '-', table.title.lower()).strip('-')


def _links(text: str) -> str:
    """Markdown's links as HTML, the rest escaped."""
    return re.sub(r'\[(.+?)\]\((.+?)\)', r'<a href="\2">\1</a>', escape(text, quote=False))
