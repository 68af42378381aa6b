"""The paper's tables as data: configs/tables.yml, read and checked."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmv2m.engine.errors import UserError, did_you_mean

__all__ = ['Data', 'Metric', 'Row', 'Table', 'Tables', 'load_tables']


@dataclass(frozen=True)
class Metric:
    """A metric of a test.

    Attributes:
        name: Name of the metric in rows.
        label: Name of the metric in the task library's metafiles.
        task: Task of the metric in metafiles.
        logged: Name of the metric in the log of tools/test.py.
        factor: Factor from the logged value to percent.
        tta: Whether the test needs ``--tta``.
    """

    name: str
    label: str
    task: str
    logged: str
    factor: float = 1
    tta: bool = False


@dataclass(frozen=True)
class Data:
    """A data set, and the metrics of models on it.

    Attributes:
        name: Name of the data set.
        task: The task of most of its metrics.
        train_images: Images in one epoch.
        size: H and W of the image for which FLOPs are counted.
        metrics: The metrics, the most important first.
        train_size: H and W of the image for which training steps are timed; None for ``size``.
        cpu: Whether a training takes only minutes without a GPU.
    """

    name: str
    task: str
    train_images: int
    size: tuple[int, int]
    metrics: tuple[Metric, ...]
    train_size: tuple[int, int] | None = None
    cpu: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: Name of the row, unique in all tables of one number.
        family: Name of the model's family.
        config: Path of the config from the folder of the tables' file.
        data: The data set.
        size: H and W of the image for which FLOPs are counted.
        train_size: H and W of the image for which training steps are timed; None for ``size``.
        params: Printed parameters in millions, or None.
        flops: Printed multiply-accumulates in G, or None.
        metrics: Printed figures, in percent, by the metric's name.
        init: Path of the config whose weights the backbone starts from; None if the row's config
            names published weights, or needs none.
        params_at: Image size for which the printed parameters count position embeddings; None for
            the config's.
        params_without_head: Whether the printed parameters leave the classifier's head out.
        flops_with_scans: Whether the printed multiply-accumulates count scans, see
            :data:`mmv2m.utils.complexity.COUNTING_RULES`.
        note: A remark for readers.
    """

    name: str
    family: str
    config: str
    data: Data
    size: tuple[int, int]
    train_size: tuple[int, int] | None = None
    params: float | None = None
    flops: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    init: str | None = None
    params_at: int | None = None
    params_without_head: bool = False
    flops_with_scans: bool = False
    note: str = ''


@dataclass(frozen=True)
class Table:
    """A table, or a part of one with a title of its own.

    Attributes:
        number: The paper's number of the table, or ``'other'``.
        title: Title of the table.
        data: The data set of all rows.
        rows: The rows.
    """

    number: str
    title: str
    data: Data
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Tables:
    """All tables of a file.

    Attributes:
        path: The file.
        families: The kind of each family, and the title and URL of its paper.
        tables: The tables.
    """

    path: Path
    families: Mapping[str, Mapping[str, str]]
    tables: tuple[Table, ...]

    @property
    def numbers(self) -> list[str]:
        """The numbers of the tables."""
        return list(dict.fromkeys(table.number for table in self.tables))

    def config_path(self, row: Row) -> Path:
        """The file of a row's config."""
        return self.path.parent / row.config

    def by_config(self) -> dict[str, list[Row]]:
        """The rows that each config is for, configs in the tables' order."""
        rows: dict[str, list[Row]] = {}
        for table in self.tables:
            for row in table.rows:
                rows.setdefault(row.config, []).append(row)
        return rows

    def select(self, number: str, names: Iterable[str] = ()) -> tuple[Table, ...]:
        """The tables of a number, with the rows that are asked for.

        Args:
            number: One of :attr:`numbers`, or ``'all'``.
            names: Names of rows or of their config files, in upper or lower case; empty for all
                rows.

        Raises:
            UserError: If there is no such table or row.
        """
        if number not in (*self.numbers, 'all'):
            raise UserError(f'there is no table {number}, but {", ".join(self.numbers)} and all')
        tables = [table for table in self.tables if number in (table.number, 'all')]
        wanted = {name.lower(): name for name in names}
        if not wanted:
            return tuple(tables)
        known = {key for table in tables for row in table.rows for key in _keys(row)}
        for lower, name in wanted.items():
            if lower not in known:
                raise UserError(f'table {number} has no row {name}{_near(name, tables)}')
        chosen = [
            (table, tuple(row for row in table.rows if wanted.keys() & set(_keys(row))))
            for table in tables
        ]
        return tuple(Table(t.number, t.title, t.data, rows) for t, rows in chosen if rows)


def load_tables(path: Path) -> Tables:
    """Read and check a file of tables. configs/tables.yml explains its format.

    Args:
        path: The file.

    Raises:
        UserError: If the file cannot be read, or an entry is missing, unknown or duplicate.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f'the tables cannot be read: {error}') from error
    except yaml.YAMLError as error:
        raise UserError(f'{path} is no YAML: {error}') from error
    where = str(path)
    _check_keys(where, content, ('families', 'data', 'tables'))
    for name, family in content['families'].items():
        _check_keys(f'{where}: family {name}', family, ('kind', 'title', 'url'))
    data = {name: _data(where, name, value) for name, value in content['data'].items()}
    tables = tuple(_table(where, value, data, content['families']) for value in content['tables'])
    _check_names(where, tables)
    return Tables(path.absolute(), content['families'], tables)


def _check_names(where: str, tables: Iterable[Table]) -> None:
    """Check that names of rows are unique in a table, and file names of configs everywhere."""
    seen = set()
    for table in tables:
        for row in table.rows:
            if (table.number, row.name) in seen:
                raise UserError(f'{where}: table {table.number} has two rows {row.name}')
            seen.add((table.number, row.name))
    configs: dict[str, str] = {}
    for config in (row.config for table in tables for row in table.rows):
        # mim and --rows know configs by these names.
        if configs.setdefault(Path(config).stem, config) != config:
            raise UserError(f'{where}: {configs[Path(config).stem]} and {config} have one name')


def _data(where: str, name: str, value: Any) -> Data:
    where = f'{where}: data {name}'
    _check_keys(where, value, ('task', 'train_images', 'size', 'metrics'), ('train_size', 'cpu'))
    train_size = _size(where, value['train_size']) if 'train_size' in value else None
    metrics = []
    for metric, settings in value['metrics'].items():
        _check_keys(f'{where}, {metric}', settings, ('logged',), ('label', 'task', 'factor', 'tta'))
        defaults = dict(name=metric, label=metric, task=value['task'])
        metrics.append(Metric(**{**defaults, **settings}))
    return Data(
        name,
        value['task'],
        value['train_images'],
        _size(where, value['size']),
        tuple(metrics),
        train_size,
        value.get('cpu', False),
    )


def _table(where: str, value: Any, data: dict[str, Data], families: dict[str, dict]) -> Table:
    _check_keys(f'{where}: a table', value, ('number', 'title', 'data', 'rows'))
    number, title = str(value['number']), value['title']
    of = _one_of(f'{where}: {title}: data', value['data'], data)
    rows = tuple(_row(f'{where}: {title}', row, data[of], families) for row in value['rows'])
    return Table(number, title, data[of], rows)


def _row(where: str, value: Any, data: Data, families: dict[str, dict]) -> Row:
    metrics = {metric.name for metric in data.metrics}
    optional = (
        *('size', 'params', 'flops', 'params_at', 'params_without_head', 'flops_with_scans'),
        *('init', 'note'),
    )
    _check_keys(f'{where}: a row', value, ('name', 'family', 'config'), (*optional, *metrics))
    where = f'{where}: {value["name"]}'
    _one_of(f'{where}: family', value['family'], families)
    sizes = (_size(where, value['size']), None) if 'size' in value else (data.size, data.train_size)
    printed = {name: value[name] for name in value if name in metrics}
    for name, figure in {**printed, **{key: value.get(key) for key in optional[1:4]}}.items():
        if figure is not None and not isinstance(figure, (int, float)):
            raise UserError(f'{where}: {name} must be a number, but is {figure!r}')
    given = {key: value[key] for key in optional[1:] if key in value}
    return Row(
        value['name'], value['family'], value['config'], data, *sizes, metrics=printed, **given
    )


def _check_keys(
    where: str, value: Any, required: Iterable[str], optional: Iterable[str] = ()
) -> None:
    if not isinstance(value, dict):
        found = repr(value)
        found = found if len(found) < 60 else f'{found[:60]}...'
        raise UserError(f'{where}: {", ".join(required)} are expected, but not {found}')
    for key in required:
        if key not in value:
            raise UserError(f'{where} lacks {key}: {value}')
    known = (*required, *optional)
    for key in value:
        if key not in known:
            raise UserError(f'{where}: nothing is called {key!r}{did_you_mean(str(key), known)}')


def _one_of(where: str, value: str, known: Iterable[str]) -> str:
    if value not in known:
        raise UserError(f'{where} must be one of {", ".join(known)}, but is {value!r}')
    return value


def _size(where: str, value: Any) -> tuple[int, int]:
    valid = isinstance(value, (list, tuple)) and len(value) == 2
    if not valid or not all(isinstance(side, int) and side > 0 for side in value):
        raise UserError(f'{where}: size must be [height, width], but is {value!r}')
    return value[0], value[1]


def _keys(row: Row) -> Iterator[str]:
    yield row.name.lower()
    yield Path(row.config).stem.lower()


def _near(name: str, tables: Iterable[Table]) -> str:
    rows = [row for table in tables for row in table.rows]
    names, configs = [row.name for row in rows], [Path(row.config).stem for row in rows]
    nearest = did_you_mean(name, names) or did_you_mean(name, configs)
    return nearest or f'; there are {", ".join(names)}'
