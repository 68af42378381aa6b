"""The FLOPs tool: sizes, channels and units."""

import re
from pathlib import Path

import pytest
from dense_data import tiny_mask_rcnn, tiny_upernet

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmv2m.models'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='V2M', arch=dict(embed_dims=16, depths=(1, 0, 0, 0), state_dims=4),
                  img_size=(8, 16), patch_size=4, out_indices=0, class_token='mean',
                  in_channels={channels}),
    head=dict(type='LinearClsHead', num_classes=10, in_channels={head}))
"""


@pytest.fixture
def printed(load_main, capsys):
    """What the tool prints: the input's line, and figures with their units."""
    get_flops = load_main('analysis_tools/get_flops')

    def run(*argv):
        capsys.readouterr()
        get_flops([str(arg) for arg in argv])
        text = capsys.readouterr().out
        figures = re.findall(r'(?:params|FLOPs)\s+([\d.]+ [GMK])', text)
        return re.search('input +(.*)', text)[1], figures

    return run


def write(channels=3, head=16):
    file = Path(f'tiny{head}.py').absolute()
    file.write_text(CONFIG.format(channels=channels, head=head))
    return file


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_channels(printed, channels):
    tokens, width, inner, states, rank, taps = 8, 16, 32, 4, 1, 4
    half = inner * (taps + rank + states + rank)
    patch = channels * 4 * 4 * width
    products = tokens * (patch + width * 2 * inner + 4 * 2 * half + inner * width) + width * 10
    scans = 9 * tokens * inner * states * 8
    size, (params, plain, with_scans) = printed(write(channels))
    assert size == f"{channels} x 8 x 16 (the config's; --shape H W takes another)"
    assert plain == f'{products / 1e6:.3f} M'
    assert with_scans == f'{(products + scans) / 1e6:.3f} M'
    assert params.endswith(' K')
    assert printed(write(channels), '--shape', 8, 16) == (
        f'{channels} x 8 x 16',
        [params, plain, with_scans],
    )


def test_sizes(printed):
    assert printed(tiny_mask_rcnn())[0].startswith('3 x 800 x 1280 (')
    assert printed(tiny_upernet('upernet_v2m-t'))[0].startswith('3 x 64 x 96 (')
    size, figures = printed(ROOT / 'configs/v2m-t_1xb128_cifar10.py')
    assert size.startswith('3 x 32 x 32 (') and figures[0].endswith(' M')


def test_models_without_flops(load_main, fails):
    get_flops = load_main('analysis_tools/get_flops')
    config = write()
    assert '--shape must be positive, but is 0 x 0' in fails(get_flops, config, '--shape', 0)
    assert 'but is 224 x -1' in fails(get_flops, config, '--shape', 224, -1)
    line = fails(get_flops, write(head=7))
    assert 'tiny7.py: the model cannot be measured: RuntimeError' in line
