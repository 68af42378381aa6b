"""Reports of rows as CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from mmv2m.utils.complexity import COUNTING_RULES

from .estimate import Estimate
from .report import RowReport
from .tables import Metric

__all__ = ['as_csv', 'as_dict', 'as_json']

PLAIN, WITH_SCANS = COUNTING_RULES


def as_csv(reports: Iterable[RowReport]) -> str:
    """One line for each row. Columns that the row's table does not have are empty."""
    lines = [_flat(as_dict(report)) for report in reports]
    columns = dict.fromkeys(column for line in lines for column in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def as_json(reports: Iterable[RowReport]) -> str:
    """A list with one object for each row."""
    return json.dumps([as_dict(report) for report in reports], indent=2, ensure_ascii=False) + '\n'


def as_dict(report: RowReport) -> dict[str, Any]:
    """A row's report as plain data, with None for missing values."""
    row, cost = report.row, report.cost
    rule = WITH_SCANS if row.flops_with_scans else PLAIN
    figures: dict[str, tuple[float | None, float | None]] = dict(
        params_M=(row.params, None if cost is None else round(cost.params / 1e6, 6)),
        flops_G=(row.flops, None if cost is None else round(cost.flops[rule] / 1e9, 6)),
    )
    result: dict[str, Any] = dict(
        table=report.table.number,
        title=report.table.title,
        row=row.name,
        family=row.family,
        config=row.config,
        image_size='x'.join(map(str, row.size)),
    )
    for name, (printed, here) in figures.items():
        known = printed is not None and here is not None
        difference = round(here - printed, 6) if known else None  # type: ignore[operator]
        result[name] = dict(printed=printed, here=here, difference=difference)
    for name, other in (('without_scans', PLAIN), ('with_scans', WITH_SCANS)):
        counted = None if cost is None else round(cost.flops[other] / 1e9, 6)
        result['flops_G'][name] = counted
    for metric in row.data.metrics:
        result[metric.name] = _metric_dict(report, metric)
    result['training'] = {f'{e.gpus}_gpus': _estimate_dict(e) for e in report.estimates}
    result['missing'] = [f'{o.kind}: {o.message}' for o in report.obstacles]
    result['note'] = row.note
    return result


def _metric_dict(report: RowReport, metric: Metric) -> dict[str, Any]:
    printed, own = report.row.metrics.get(metric.name), report.results.own.get(metric.name)
    if own is None:
        return dict(printed=printed, here=None, std=None, runs=0, trained=None)
    std = None if own.std is None else round(own.std, 3)
    runs = len(own.values)
    return dict(printed=printed, here=round(own.mean, 3), std=std, runs=runs, trained=own.trained)


def _estimate_dict(estimate: Estimate) -> dict[str, Any]:
    def shown(value: float | None) -> float | None:
        return None if value is None else round(value, 2)

    return dict(
        batch_size=estimate.batch_size,
        images_per_second=shown(estimate.images_per_second),
        gpu_hours=shown(estimate.gpu_hours),
        hours=shown(estimate.hours),
    )


def _flat(node: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{key} ')
        else:
            flat[prefix + key] = '; '.join(value) if isinstance(value, list) else value
    return flat
