"""Entries of the model zoo."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmv2m.engine.records import Record
from mmv2m.utils.complexity import Complexity

from ..published import Source, weights_of
from ..report import RowReport, row_config
from ..results import own_results
from ..tables import Row, Table, Tables
from .stock_weights import find_stock_weights

__all__ = ['Entry', 'show_size', 'zoo_entries']


@dataclass(frozen=True)
class Entry:
    """A row in the zoo.

    Attributes:
        report: The row, its cost and its results.
        kind: Kind of the row's family.
        weights: URL of the weights that the task library or the authors publish for the row, or
            None.
    """

    report: RowReport
    kind: str
    weights: str | None


def show_size(row: Row) -> str:
    """Return the height and the width of a row's image in pixels, such as ``224 x 224``."""
    return ' x '.join(map(str, row.size))


def zoo_entries(
    tables: Tables,
    costs: Mapping[str, Complexity],
    records: Sequence[Record],
    published: tuple[Source, ...] = (),
) -> Iterator[tuple[Table, list[Entry]]]:
    """Yield each table with the entries of its rows.

    Args:
        tables: The tables.
        costs: Parameters and FLOPs of each config.
        records: Results of runs.
        published: Weights that others publish.
    """
    for table in tables.tables:
        entries = []
        for row in table.rows:
            path = tables.config_path(row)
            results = own_results(row, path, row_config(path), records)
            report = RowReport(table, row, costs[row.config], results)
            kind = 'V2M' if row.family == 'V2M' else tables.families[row.family]['kind']
            weights = find_stock_weights(Path(path)) or weights_of(published, row.config)
            entries.append(Entry(report, kind, weights))
        yield table, entries
