"""The metafiles and the page say what tables, configs and records say, and mim can read them."""

import importlib
import re
from pathlib import Path

import pytest

from mmv2m.engine.records import load_records
from mmv2m.reproduce.published import extra_rows, load_published
from mmv2m.reproduce.report import row_config
from mmv2m.reproduce.results import own_results
from mmv2m.reproduce.tables import load_tables
from mmv2m.reproduce.zoo.build import build_zoo, stale_files
from mmv2m.reproduce.zoo.metafiles import read_costs
from mmv2m.reproduce.zoo.stock_weights import find_stock_weights

ROOT = Path(__file__).resolve().parents[2]
TABLES = load_tables(ROOT / 'configs' / 'tables.yml')
RECORDS = load_records(ROOT / 'records')
PUBLISHED = load_published(ROOT / 'configs' / 'pretrained.yml', TABLES)
CONFIGS = [*TABLES.by_config(), *extra_rows(PUBLISHED, TABLES)]


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


def test_the_page_names_image_sizes_and_hides_no_figure():
    text = (ROOT / 'docs' / 'model_zoo.md').read_text()
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
    assert not [line for line in rows.values() if re.search(r' 0\.00? ', line)]
