"""The tables of docs/neighbours.md, from the record of neighbours.py and neighbours.yaml."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmv2m.reproduce.markdown import markdown_table

__all__ = [
    'agreement',
    'brief_neighbours',
    'facts_table',
    'failures',
    'load_facts',
    'models_tables',
    'operators_tables',
]

MODES = dict(eager='eager', graph='CUDA graph', compile='compiled')
NOTHING, FAILED = '–', 'failed'
IN_BRIEF = (
    *('V2M-S*', 'V2M-T', 'Swin-T', 'ConvNeXt-T', 'MambaVision-T, official'),
    *('VMamba-T, official', 'Vim-T, official', 'Mamba2D-T, official'),
)
"""Names of the models that README.md shows."""

Result = Mapping[str, Any]


def load_facts() -> dict[str, Any]:
    """Read neighbours.yaml."""
    return yaml.safe_load(Path(__file__).with_suffix('.yaml').with_stem('neighbours').read_text())


def facts_table(facts: Mapping[str, Any]) -> str:
    """Return a table with a column for each repository: its version, and what it offers."""
    repositories = facts['repositories']
    rows = [['looked at', *(_source(r) for r in repositories)]]
    rows += [
        [shown, *(str(r[key]) for r in repositories)] for key, shown in facts['columns'].items()
    ]
    return markdown_table(['', *(r['name'] for r in repositories)], rows)


def _source(repository: Mapping[str, Any]) -> str:
    if 'commit' not in repository:
        return repository['repository']
    where = f'[{repository["repository"]}](https://github.com/{repository["repository"]})'
    return f'{where} at {repository["commit"]}, {repository["date"]}'


def models_tables(results: Sequence[Result]) -> str:
    """Return a table for each size with images per second, milliseconds and memory."""
    chosen = _of(results, 'models')
    parts = []
    for size in sorted({r['size'] for r in chosen}):
        of_size = [r for r in chosen if r['size'] == size]
        batches = sorted({r['batch'] for r in of_size if 'batch' in r})
        names = ' and '.join(str(batch) for batch in batches)
        head = f'{size} x {size}, batch {names}; images/s (milliseconds):'
        parts.append(f'{head}\n\n{_models_table(of_size)}')
    return '\n\n'.join(parts)


def brief_neighbours(results: Sequence[Result]) -> str | None:
    """Return a table of a few models at 224 x 224, or None if none of them has been measured."""
    chosen = [r for r in _of(results, 'models') if r['size'] == 224]
    ordered = [r for name in IN_BRIEF for r in chosen if r['name'] == name]
    return _models_table(ordered) if any('milliseconds' in r for r in ordered) else None


def _models_table(results: Sequence[Result]) -> str:
    modes = [mode for mode in MODES if any(r['mode'] == mode for r in results)]
    found = {(r['name'], r['mode'], r['training']): r for r in results}
    kinds = [(mode, training) for training in (False, True) for mode in modes]
    heads = [f'{"training" if t else "inference"}, {MODES[mode]}' for mode, t in kinds]
    rows = []
    for name in _distinct(results):
        own = [r for r in results if r['name'] == name]
        count = next((r['parameters'] for r in own if 'parameters' in r), None)
        cells = [_cell(found.get((name, *kind)), _speed) for kind in kinds]
        peak = _cell(found.get((name, 'eager', True)), lambda r: f'{r["peak_gib"]:.1f}')
        rows.append([name, NOTHING if count is None else f'{count / 1e6:.1f}', *cells, peak])
    return markdown_table(['model', 'parameters, M', *heads, 'GiB, training, eager'], rows)


def _speed(r: Result) -> str:
    return f'{r["images_per_second"]:,.0f} ({r["milliseconds"]:.1f})'


def agreement(results: Sequence[Result]) -> str:
    """Return how far official models on our scan differ from the same models on their own scan."""
    found = {(r['name'], r['size']): r['sample'] for r in results if 'sample' in r}
    rows = []
    for (name, size), theirs in found.items():
        model, comma, _ = name.partition(', official')
        ours = found.get((f'{model} on our scan', size))
        if comma and ours is not None:
            distance = math.dist(ours['logits'], theirs['logits']) / math.hypot(*theirs['logits'])
            norms = ours['gradient_norm'] / theirs['gradient_norm'] - 1
            rows.append([name, str(size), f'{distance:.0e}', f'{abs(norms):.0e}'])
    heads = ['model', 'side of the images', 'error of logits', 'error of the norm of gradients']
    return markdown_table(heads, rows) if rows else 'Not compared yet.'


def operators_tables(results: Sequence[Result]) -> str:
    """Return a table of milliseconds for each mode, and one of memory."""
    chosen = _of(results, 'operators')
    parts = []
    for mode, shown in MODES.items():
        of_mode = [r for r in chosen if r['mode'] == mode]
        if any('milliseconds' in r for r in of_mode):
            head = f'Milliseconds, {shown}, forward / with backward:'
            table = _operators_table(of_mode, lambda r: f'{r["milliseconds"]:.3g}')
            parts.append(f'{head}\n\n{table}')
    eager = [r for r in chosen if r['mode'] == 'eager']
    if any(r.get('peak_gib') is not None for r in eager):
        table = _operators_table(eager, lambda r: f'{r["peak_gib"]:.2f}')
        parts.append(f'Peak GiB, eager, forward / with backward:\n\n{table}')
    return '\n\n'.join(parts)


def _operators_table(results: Sequence[Result], show: Callable[[Result], str]) -> str:
    sizes = sorted({r['size'] for r in results})
    batches = {r['size']: r['batch'] for r in results if 'batch' in r}
    found = {(r['name'], r['size'], r['training']): r for r in results}
    rows = [
        [
            name,
            *(
                ' / '.join(_cell(found.get((name, size, t)), show) for t in (False, True))
                for size in sizes
            ),
        ]
        for name in _distinct(results)
    ]
    heads = [f'{batches.get(size, "?")} x {size} x {size}' for size in sizes]
    return markdown_table(['operator', *heads], rows)


def failures(results: Sequence[Result]) -> str:
    """Return a line for each reason for which something could not be measured."""
    places: dict[tuple[str, str], list[str]] = {}
    for r in results:
        if 'failure' not in r:
            continue
        where = places.setdefault((r['name'], r['failure']), [])
        if r['mode'] is not None:
            what = 'training' if r['training'] else 'inference'
            where.append(f'{MODES[r["mode"]]}, {r["size"]}, {what}')
    lines = [
        f'- {name}{" (" + "; ".join(where) + ")" if where else ""}: `{reason.replace("`", "")}`'
        for (name, reason), where in places.items()
    ]
    return '\n'.join(lines) if lines else 'Everything that was tried could be measured.'


def _of(results: Sequence[Result], kind: str) -> list[Result]:
    """Return the results of one kind that have a mode and a size."""
    return [r for r in results if r['kind'] == kind and r['mode'] is not None]


def _distinct(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(r['name'] for r in results))


def _cell(result: Result | None, show: Callable[[Result], str]) -> str:
    if result is None:
        return NOTHING
    return FAILED if 'failure' in result else show(result)
