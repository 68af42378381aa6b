"""Weights that others publish: their sources, their printed metrics, and the configs for them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmv2m.engine.errors import UserError

from .tables import Data, Row, Tables

__all__ = ['Checkpoint', 'Source', 'extra_rows', 'load_published', 'weights_of']

FACTS = ('family', 'repository', 'commit', 'date', 'license')
OPTIONAL = ('config', 'params', 'url', 'page', 'note')


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights.

    Attributes:
        name: Its authors' name for it.
        data: The data on which the printed metrics were measured.
        config: Path of the config for it, relative to the folder of the file; None without one.
        params: Printed parameters in millions, or None.
        url: The file's address, or None.
        page: The address of a page that has the file, if no address of a file is printed.
        metrics: Printed figures, in percent, by the metric's name.
        note: A remark for readers.
    """

    name: str
    data: Data
    config: str | None = None
    params: float | None = None
    url: str | None = None
    page: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ''


@dataclass(frozen=True)
class Source:
    """A repository whose README has facts about checkpoints.

    Attributes:
        name: Its name.
        family: The models' family, by its name in the tables.
        repository: Its address.
        commit: The commit in which the facts were read.
        date: Date of the commit.
        pages: Files of the repository that have the facts.
        license: SPDX identifier.
        checkpoints: The checkpoints.
    """

    name: str
    family: str
    repository: str
    commit: str
    date: str
    license: str
    pages: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...]


def load_published(path: Path, tables: Tables) -> tuple[Source, ...]:
    """Read and check a file of published weights; configs/pretrained.yml describes its format.

    Args:
        path: The file.
        tables: Tables with all data and families.

    Raises:
        UserError: If the file cannot be read, or an entry is missing or unknown.
    """
    try:
        content = yaml.safe_load(path.read_text())
        sources = [_source(value, tables) for value in content['sources']]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f'{path} cannot be read: {type(error).__name__}: {error}') from error
    except ValueError as error:
        raise UserError(f'{path}: {error}') from error
    return tuple(sources)


def _source(value: Mapping[str, Any], tables: Tables) -> Source:
    facts = {key: value[key] for key in FACTS}
    if facts['family'] not in tables.families:
        raise ValueError(f'{value["name"]}: there is no family {facts["family"]}')
    checkpoints = tuple(_checkpoint(c, tables) for c in value['checkpoints'])
    return Source(value['name'], pages=tuple(value['pages']), checkpoints=checkpoints, **facts)


def _checkpoint(value: Mapping[str, Any], tables: Tables) -> Checkpoint:
    name = value['name']
    data = next((t.data for t in tables.tables if t.data.name == value['data']), None)
    if data is None:
        raise ValueError(f'{name}: there is no data {value["data"]}')
    names = [metric.name for metric in data.metrics]
    if unknown := value.keys() - {'name', 'data', *OPTIONAL, *names}:
        raise ValueError(f'{name}: unknown {", ".join(sorted(unknown))}')
    metrics = {metric: value[metric] for metric in names if metric in value}
    given = {key: value[key] for key in OPTIONAL if key in value}
    checkpoint = Checkpoint(name, data, metrics=metrics, **given)
    if not metrics or (checkpoint.url is None) == (checkpoint.page is None):
        raise ValueError(f'{name}: needs a metric, and either url or page')
    if checkpoint.config is None and not checkpoint.note:
        raise ValueError(f'{name}: needs a config, or a note that says why there is none')
    return checkpoint


def weights_of(sources: tuple[Source, ...], config: str) -> str | None:
    """The address of the first published file for a config, or None."""
    for source in sources:
        for checkpoint in source.checkpoints:
            if checkpoint.config == config and checkpoint.url:
                return checkpoint.url
    return None


def extra_rows(sources: tuple[Source, ...], tables: Tables) -> dict[str, list[Row]]:
    """Rows of the checkpoints whose configs are in no table, by config."""
    rows: dict[str, list[Row]] = {}
    for config, row in _rows(sources):
        if config not in tables.by_config():
            rows.setdefault(config, [row])
    return rows


def _rows(sources: tuple[Source, ...]) -> Iterator[tuple[str, Row]]:
    for source in sources:
        for c in source.checkpoints:
            if c.config is not None:
                sizes = c.data.size, c.data.train_size
                row = Row(c.name, source.family, c.config, c.data, *sizes, metrics=c.metrics)
                yield c.config, row
