from pathlib import Path

import pytest
import yaml

from mmv2m.engine.errors import UserError
from mmv2m.reproduce.tables import load_tables

ROOT = Path(__file__).resolve().parents[2]
CONTENT = """
families:
  Net: {kind: ConvNet, title: A net, url: 'https://example.org'}
data:
  Pictures:
    task: Image Classification
    train_images: 10
    size: [8, 16]
    train_size: [6, 8]
    metrics:
      top1: {label: Top 1 Accuracy, logged: accuracy/top1}
      share: {logged: share, factor: 100, tta: true}
tables:
  - number: 1
    title: Nets
    data: Pictures
    rows:
      - {name: Net-T, family: Net, config: nets/net-t.py, params: 1, flops: 0.5, top1: 70.0}
      - {name: Net-S, family: Net, config: nets/net-s.py, size: [4, 4], note: untold}
  - number: 2
    title: More nets
    data: Pictures
    rows: [{name: Net-T, family: Net, config: nets/net-t.py}]
"""


@pytest.fixture
def write(tmp_path):
    def write(change=lambda content: None):
        content = yaml.safe_load(CONTENT)
        change(content)
        path = tmp_path / 'tables.yml'
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


def test_tables_are_read(write):
    tables = load_tables(write())
    assert tables.numbers == ['1', '2']
    first, second = tables.tables[0].rows
    assert (first.params, first.flops, first.metrics) == (1, 0.5, dict(top1=70.0))
    assert (first.size, second.size, second.note) == ((8, 16), (4, 4), 'untold')
    assert (first.train_size, second.train_size) == ((6, 8), None)
    assert (second.params, second.metrics) == (None, {})
    top1, share = first.data.metrics
    assert (top1.label, top1.factor, top1.tta, top1.task) == (
        *('Top 1 Accuracy', 1, False, 'Image Classification'),
    )
    assert (share.label, share.factor, share.tta) == ('share', 100, True)
    assert tables.config_path(first) == tables.path.parent / 'nets' / 'net-t.py'
    assert {config: len(rows) for config, rows in tables.by_config().items()} == {
        'nets/net-t.py': 2,
        'nets/net-s.py': 1,
    }


@pytest.mark.parametrize(
    ('number', 'names', 'found'),
    [
        ('1', [], [['Net-T', 'Net-S']]),
        ('2', [], [['Net-T']]),
        ('all', [], [['Net-T', 'Net-S'], ['Net-T']]),
        ('all', ['net-t'], [['Net-T'], ['Net-T']]),
        ('all', ['NET-S', 'Net-S'], [['Net-S']]),
        ('1', ['Net-S', 'Net-T'], [['Net-T', 'Net-S']]),
    ],
)
def test_rows_are_selected_by_name_or_config(write, number, names, found):
    chosen = load_tables(write()).select(number, names)
    assert [[row.name for row in table.rows] for table in chosen] == found


@pytest.mark.parametrize(
    ('number', 'names', 'words'),
    [
        ('3', [], 'there is no table 3, but 1, 2 and all'),
        ('1', ['Net-B'], "table 1 has no row Net-B; did you mean 'Net-T'"),
        ('2', ['Net-S'], "table 2 has no row Net-S; did you mean 'Net-T'"),
        ('2', ['x'], 'table 2 has no row x; there are Net-T'),
    ],
)
def test_unknown_rows(write, number, names, words):
    with pytest.raises(UserError, match=words):
        load_tables(write()).select(number, names)


def _set(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda c: c.pop('data'), 'lacks data'),
        (_set('more', value=1), "nothing is called 'more'"),
        (_set('families', 'Net', value=dict(kind='x', title='y')), 'family Net lacks url'),
        (_set('data', 'Pictures', 'size', value=8), 'size must be .height, width., but is 8'),
        (_set('data', 'Pictures', 'size', value=[8, 0]), 'size must be'),
        (_set('data', 'Pictures', 'metrics', 'top1', value={}), 'Pictures, top1 lacks logged'),
        (_set('tables', 0, 'data', value='Photos'), 'data must be one of Pictures'),
        (_set('tables', 0, 'rows', 0, 'family', value='Nut'), 'Net-T: family must be one of Net'),
        (_set('tables', 0, 'rows', 0, 'top2', value=1), "called 'top2'; did you mean 'top1'"),
        (_set('tables', 0, 'rows', 0, 'top1', value='70'), "top1 must be a number, but is '70'"),
        (_set('tables', 0, 'rows', 0, 'params', value='7M'), 'params must be a number'),
        (_set('tables', 0, 'rows', 0, value='Net-T'), 'name, family, config are expected'),
        (_set('tables', 0, 'rows', 1, 'name', value='Net-T'), 'table 1 has two rows Net-T'),
        (_set('tables', 0, 'rows', 1, 'config', value='net-t.py'), 'net-t.py have one name'),
    ],
)
def test_mistakes_in_the_file_are_named(write, change, words):
    path = write(change)
    with pytest.raises(UserError, match=words) as caught:
        load_tables(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match='cannot be read'):
        load_tables(tmp_path / 'none.yml')
    (tmp_path / 'bad.yml').write_text('a: [')
    with pytest.raises(UserError, match='no YAML'):
        load_tables(tmp_path / 'bad.yml')


def test_the_papers_tables_are_complete():
    tables = load_tables(ROOT / 'configs' / 'tables.yml')
    rows = {number: 0 for number in tables.numbers}
    for table in tables.tables:
        rows[table.number] += len(table.rows)
    assert {number: rows[number] for number in '123'} == {'1': 32, '2': 18, '3': 14}
    ours = {row.name for row in tables.tables[0].rows if row.family == 'V2M'}
    assert len(ours) == 6
    fourth = [table for table in tables.tables if table.number == '4']
    assert [row.metrics.get('top5') for row in fourth[0].rows] == [92.3, 92.9, 93.0, 93.1]
    # The weights that rows start from are those of rows.
    by_config = tables.by_config()
    assert all(r.init is None or r.init in by_config for rows in by_config.values() for r in rows)
