"""model-index.yml and the metafiles that it imports, which mim and other tools read."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmv2m.engine.errors import UserError
from mmv2m.engine.records import Record
from mmv2m.utils.complexity import COUNTING_RULES, Complexity

from ..placement import global_batch
from ..published import Source, extra_rows, weights_of
from ..report import row_config
from ..results import own_results
from ..tables import Row, Tables
from .stock_weights import find_stock_weights

__all__ = ['build_metafiles', 'read_costs']

PLAIN, WITH_SCANS = COUNTING_RULES
SCANS = 'FLOPs With Scans'
HEAD = (
    '# Made by tools/build_model_zoo.py of configs/tables.yml, configs/pretrained.yml and the '
    'configs.\n'
)


def build_metafiles(
    tables: Tables,
    costs: Mapping[str, Complexity],
    records: Sequence[Record],
    published: tuple[Source, ...] = (),
) -> dict[str, str]:
    """Return the metafiles' texts by their paths from the repository's root.

    Each folder of configs has one metafile. A config is one model in it, even if it is in several
    rows. Names of printed figures end with ``(paper)``, and names of our own figures do not.

    Args:
        tables: The tables.
        costs: Parameters and FLOPs of each config.
        records: Results of runs.
        published: Weights that others publish. Configs that have only such weights are models, too.
    """
    folders: dict[str, dict[str, list]] = {}
    described = set()
    all_rows = tables.by_config() | extra_rows(published, tables)
    for config, rows in all_rows.items():
        folder = folders.setdefault(
            str(Path('configs', config).parent), dict(Collections=[], Models=[])
        )
        family = rows[0].family
        if family not in described:
            described.add(family)
            folder['Collections'].append(_collection(family, tables.families[family]))
        folder['Models'].append(_model(tables, config, rows, costs[config], records, published))
    texts = {f'{folder}/metafile.yml': _text(content) for folder, content in folders.items()}
    return {'model-index.yml': _text(dict(Import=sorted(texts))), **texts}


def read_costs(root: Path) -> dict[str, Complexity]:
    """Parameters and FLOPs by config, from the metafiles.

    Args:
        root: The repository's root.

    Raises:
        UserError: If a metafile cannot be read.
    """
    costs = {}
    for model in _models(root):
        measured = model['Metadata']
        flops = {PLAIN: measured['FLOPs'], WITH_SCANS: measured[SCANS]}
        costs[model['Config'].removeprefix('configs/')] = Complexity(measured['Parameters'], flops)
    return costs


def _models(root: Path) -> Iterator[dict[str, Any]]:
    try:
        index = yaml.safe_load((root / 'model-index.yml').read_text())
        for path in index['Import']:
            yield from yaml.safe_load((root / path).read_text())['Models']
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(
            f'the metafiles cannot be read ({error}): python tools/build_model_zoo.py makes them'
        ) from error


def _collection(family: str, paper: Mapping[str, str]) -> dict[str, Any]:
    return dict(
        Name=family,
        Metadata={'Architecture': [paper['kind']]},
        Paper=dict(Title=paper['title'], URL=paper['url']),
        README='docs/model_zoo.md',
    )


def _model(
    tables: Tables,
    config: str,
    rows: Sequence[Row],
    cost: Complexity,
    records: Sequence[Record],
    published: tuple[Source, ...],
) -> dict[str, Any]:
    path = tables.path.parent / config
    model: dict[str, Any] = {
        'Name': Path(config).stem,
        'In Collection': rows[0].family,
        'Config': f'configs/{config}',
        'Metadata': _metadata(rows[0], path, cost),
    }
    if results := _results(rows, path, records):
        model['Results'] = results
    if weights := find_stock_weights(path) or weights_of(published, config):
        model['Weights'] = weights
    return model


def _metadata(row: Row, path: Path, cost: Complexity) -> dict[str, Any]:
    cfg = row_config(path)
    length = cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')
    return {
        'Training Data': row.data.name,
        **({'Epochs': length[0]} if length[0] else {'Iterations': length[1]}),
        'Batch Size': global_batch(cfg),
        'Image Size': 'x'.join(map(str, row.size)),
        'Parameters': cost.params,
        'FLOPs': cost.flops[PLAIN],
        SCANS: cost.flops[WITH_SCANS],
    }


def _results(rows: Sequence[Row], path: Path, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Printed and own figures, one entry for each task."""
    printed = {name: value for row in rows for name, value in row.metrics.items()}
    own = own_results(rows[0], path, row_config(path), records).own
    tasks: dict[str, dict[str, float]] = {}
    for metric in rows[0].data.metrics:
        figures = tasks.setdefault(metric.task, {})
        if metric.name in own:
            figures[metric.label] = round(own[metric.name].mean, 2)
        if metric.name in printed:
            figures[f'{metric.label} (paper)'] = printed[metric.name]
    return [
        dict(Task=task, Dataset=rows[0].data.name, Metrics=figures)
        for task, figures in tasks.items()
        if figures
    ]


def _text(content: Mapping[str, Any]) -> str:
    filled = {key: value for key, value in content.items() if value}
    return HEAD + yaml.safe_dump(filled, sort_keys=False, allow_unicode=True, width=100)
