"""The metafiles and pages say what tables, configs and records say, and mim can read them."""

import importlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mmv2m.engine.records import load_records
from mmv2m.reproduce.published import extra_rows, load_published
from mmv2m.reproduce.report import row_config
from mmv2m.reproduce.results import own_results
from mmv2m.reproduce.tables import load_tables
from mmv2m.reproduce.zoo.build import build_zoo, stale_files
from mmv2m.reproduce.zoo.metafiles import read_costs
from mmv2m.reproduce.zoo.scatter import Point, draw_scatter
from mmv2m.reproduce.zoo.stock_weights import find_stock_weights

ROOT = Path(__file__).resolve().parents[2]
TABLES = load_tables(ROOT / 'configs' / 'tables.yml')
RECORDS = load_records(ROOT / 'records')
PUBLISHED = load_published(ROOT / 'configs' / 'pretrained.yml', TABLES)
CONFIGS = [*TABLES.by_config(), *extra_rows(PUBLISHED, TABLES)]
VOID = {'meta', 'circle', 'path'}


def test_nothing_is_stale():
    """Their Params and FLOPs are measured again in test_configs."""
    stale = stale_files(ROOT, build_zoo(TABLES, read_costs(ROOT), RECORDS, PUBLISHED))
    assert not stale, 'python tools/build_model_zoo.py writes them anew'


def test_every_record_counts_for_a_row_and_stands_in_the_zoo():
    counted = set()
    page = (ROOT / 'docs' / 'model_zoo.md').read_text()
    for config, rows in TABLES.by_config().items():
        path = TABLES.path.parent / config
        of_row = [r for r in RECORDS if r.config == f'configs/{config}']
        results = own_results(rows[0], path, row_config(path), of_row)
        assert results.left_out == ()
        counted |= {record.file_name for record in of_row}
        for own in results.own.values():
            assert f'{own.mean:.2f}' in page
    assert counted == {record.file_name for record in RECORDS}


@pytest.fixture
def mim(monkeypatch):
    def module(name):
        found = importlib.import_module(f'mim.commands.{name}')
        monkeypatch.setattr(found, 'get_installed_path', lambda package: str(ROOT))
        monkeypatch.setattr(found, 'is_installed', lambda package: True)
        return found

    return module


def test_mim_finds_every_config(mim):
    info = mim('search').get_model_info
    configs = info('mmv2m')
    assert sorted(configs['config']) == sorted(f'configs/{c}' for c in CONFIGS)
    assert sorted(configs.index) == sorted(Path(c).stem for c in CONFIGS)
    assert set(info('mmv2m', models=['Vim'], training_datasets=['ADE20K']).index) == {
        *('upernet_vim-t_8xb2-160k_ade20k-512x512', 'upernet_vim-s_8xb2-160k_ade20k-512x512'),
    }
    large = info(
        'mmv2m',
        training_datasets=['ImageNet-1K'],
        filter_conditions='top_1_accuracy>83,parameters<51000000',
    ).index
    assert set(large) == {
        *('swin-s_16xb64_in1k', 'vmamba-s_8xb128_in1k', 'vmamba-s-s1l20_8xb128_in1k'),
        'v2m-b-star_8xb64_in1k',
    }
    (v2m,) = info('mmv2m', configs=['v2m-t_8xb64_in1k'], to_dict=True).values()
    assert (v2m['epochs'], v2m['batch_size'], v2m['parameters']) == (300, 512, 6858280)
    assert v2m['imagenet-1k/top_1_accuracy_(paper)'] == 76.2


def test_mim_downloads_what_is_published(mim, monkeypatch, tmp_path):
    download, asked = mim('download'), []
    monkeypatch.setattr(mim('search'), 'is_installed', lambda package: True)
    monkeypatch.setattr(download, 'download_from_file', lambda url, *a, **k: asked.append(url))
    download._download_configs('mmv2m', ['deit-t_4xb256_in1k'], str(tmp_path))
    assert asked[0].endswith('.pth') and (tmp_path / 'deit-t_4xb256_in1k.py').exists()
    # Files of other authors: of a config in the tables, and of one that is here for the file alone.
    for config, name in (
        ('mask-rcnn_vmamba-s_3x_coco', 'mask_rcnn_vssm_fpn_coco_small_ms_3x_epoch_32.pth'),
        ('mask-rcnn_plain-mamba-l2_1x_coco', 'l2_1x.pth'),
    ):
        download._download_configs('mmv2m', [config], str(tmp_path))
        assert asked[-1].endswith(name) and (tmp_path / f'{config}.py').exists()
    # Where nothing is published, mim has no message of its own.
    with pytest.raises(AttributeError):
        download._download_configs('mmv2m', ['v2m-t_8xb64_in1k'], str(tmp_path))


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ("_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'", True),
        ('# Said.\n_base_ = "mmpretrain::deit/deit-tiny_4xb256_in1k.py"', True),
        ("_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'\nmax_epochs = 1", False),
        (
            "_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'\n"
            "optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')",
            True,
        ),
        (
            "_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'\n"
            'optim_wrapper = dict(optimizer=dict(lr=1.0))',
            False,
        ),
        ("_base_ = 'mmpretrain::deit/unheard-of.py'", False),
        ("_base_ = 'mmnothing::deit/deit-tiny_4xb256_in1k.py'", False),
        ("_base_ = './deit-tiny_4xb256_in1k.py'", False),
        ("_base_ = ['mmpretrain::deit/deit-tiny_4xb256_in1k.py']", False),
        ("base = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'", False),
    ],
)
def test_weights_are_those_of_unchanged_configs_only(text, found, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(text)
    assert bool(find_stock_weights(path)) == found


class Checker(HTMLParser):
    """Tags that close in order, ids that are unique, links inside the page that lead somewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.rows = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if 'id' in attributes:
            self.ids.append(attributes['id'])
        if tag == 'a':
            self.links.append(attributes['href'])
        assert tag not in ('img', 'link', 'iframe') and 'src' not in attributes
        if tag == 'tr':
            self.rows.append((len(self.ids), 0))
        elif tag in ('td', 'th'):
            self.rows[-1] = (self.rows[-1][0], self.rows[-1][1] + 1)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_html_page_is_well_formed_and_whole():
    page = Checker()
    page.feed((ROOT / 'docs' / 'model_zoo.html').read_text())
    assert page.open == [] and len(page.ids) == len(set(page.ids)) == len(TABLES.tables)
    for link in page.links:
        if link.startswith('#'):
            assert link[1:] in page.ids
        elif '://' not in link:
            assert (ROOT / 'docs' / link).exists()
    assert len(page.rows) == sum(len(table.rows) + 1 for table in TABLES.tables)
    by_table = {}
    for table, cells in page.rows:
        by_table.setdefault(table, set()).add(cells)
    assert all(len(cells) == 1 for cells in by_table.values())


@pytest.mark.parametrize('page', ['model_zoo.md', 'model_zoo.html'])
def test_pages_name_image_sizes_and_hide_no_figure(page):
    text = (ROOT / 'docs' / page).read_text()
    rows = {
        row.config: next(line for line in text.splitlines() if f'../configs/{row.config}' in line)
        for table in TABLES.tables
        for row in table.rows
    }
    sizes = dict(
        [
            ('v2m-mini_digits.py', '8 x 8'),
            ('baselines/vit-b-p16_64xb64_in1k-384px.py', '384 x 384'),
            ('mask-rcnn_v2m-s_1x_coco.py', '800 x 1280'),
            ('upernet_v2m-t_1xb16-1k_camvid.py', '352 x 480'),
        ]
    )
    for config, size in sizes.items():
        assert size in rows[config]
    assert not [line for line in rows.values() if re.search(r'[ >]0\.00?[ <]', line)]


SORTING = """
const cells = [['b', 2], ['', undefined], ['a', 10], ['c', 1]];
const rows = cells.map(([text, number]) => ({cells: [
  {textContent: text, dataset: {}},
  {textContent: String(number ?? ''), dataset: number === undefined ? {} : {value: `${number}`}},
]}));
const body = {rows, append(...sorted) { this.rows = sorted; }};
const heads = [0, 1].map(() => ({
  set: {}, getAttribute(name) { return this.set[name] ?? null; },
  setAttribute(name, value) { this.set[name] = value; },
  removeAttribute(name) { delete this.set[name]; },
  closest: () => ({tBodies: [body]}),
  addEventListener(kind, call) { this[kind] = call; },
}));
for (const head of heads) head.parentNode = {children: heads};
global.document = {querySelectorAll: () => heads};
SCRIPT
const seen = [];
const texts = () => seen.push(body.rows.map((row) => row.cells[0].textContent).join(''));
heads[1].click(); texts(); heads[1].click(); texts(); heads[0].click(); texts();
heads[0].keydown({key: 'Enter'}); texts();
console.log(JSON.stringify([seen, heads.map((head) => head.set)]));
"""


@pytest.mark.skipif(shutil.which('node') is None, reason="runs the page's script in node")
def test_the_pages_script_sorts():
    page = (ROOT / 'docs' / 'model_zoo.html').read_text()
    script = re.search(r'<script>(.*?)</script>', page, re.DOTALL)[1]
    # Strict mode has to come first.
    code = script.replace("'use strict';", '', 1)
    done = subprocess.run(
        ['node', '-e', "'use strict';" + SORTING.replace('SCRIPT', code)],
        capture_output=True,
        text=True,
        check=True,
    )
    orders, heads = json.loads(done.stdout)
    # By number up and down, by text up and down; what is empty is last.
    assert [order.ljust(3) for order in orders] == ['cba', 'abc', 'abc', 'cba']
    assert heads == [{'aria-sort': 'descending'}, {}]


@pytest.mark.parametrize('xs', [(0.8, 55.0), (259.0, 365.0), (1.71, 1.95), (2.0,), (0.01, 900.0)])
def test_plots_have_ticks_all_along_their_axis(xs):
    points = [Point(x, 70.0 + i, 'name', 'V2M') for i, x in enumerate(xs)]
    svg = draw_scatter(points, dict(V2M='#222'), 'FLOPs', 'Accuracy')
    ticks = [
        (float(x), float(text))
        for x, text in re.findall(r'<text x="([\d.]+)" y="388" class="x">([\d.e+-]+)</text>', svg)
    ]
    places = [56, *(x for x, _ in ticks), 704]
    assert 4 <= len(ticks) <= 20
    assert max(b - a for a, b in zip(places, places[1:], strict=False)) < 648 / 3
    numbers = [number for _, number in ticks]
    assert numbers == sorted(set(numbers))


def test_names_keep_off_other_points_and_the_axes():
    points = [
        Point(344.0, 49.9, 'VMamba-S@3x', 'SSM'),
        Point(365.0, 50.0, 'V2M-B*@3x', 'V2M'),
        Point(259.0, 38.2, 'EffVMamba-T', 'SSM'),
    ]
    svg = draw_scatter(points, dict(SSM='#111', V2M='#222'), 'FLOPs', 'box AP')
    circles = [tuple(map(float, c)) for c in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)]
    for x, y, anchor, name in re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)" class="name" text-anchor="(\w+)">(.*?)</text>', svg
    ):
        width = 6 * len(name)  # of a browser's 9 pixels
        left = float(x) - dict(start=0, middle=0.5, end=1)[anchor] * width
        assert left >= 56 and left + width <= 720
        for cx, cy in circles:
            assert not (left < cx < left + width and float(y) - 8 < cy < float(y) + 2)


def test_plots_hold_their_points():
    points = [
        Point(1.0, 70.0, 'A & B', 'SSM'),
        Point(1.0, 70.0, 'twin', 'SSM', own=True),
        Point(50.0, 83.0, 'C', 'V2M'),
    ]
    svg = draw_scatter(points, dict(SSM='#111', V2M='#222'), 'FLOPs', 'Accuracy')
    assert svg.count('<circle') == 3 and 'A &amp; B' in svg
    assert svg.count('fill="none"') == 2
    names = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name" text-anchor="(\w+)"', svg)
    assert len(set(names)) == 3  # not one upon the other
    for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg):
        assert 56 <= float(x) <= 704 and 16 <= float(y) <= 372
    alone = draw_scatter(points[:1], dict(SSM='#111'), 'FLOPs', 'Accuracy')
    assert alone.count('<circle') == 1 and 'nan' not in alone
