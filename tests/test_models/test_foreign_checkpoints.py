"""Official checkpoints load as they are; those of something else are refused; none runs code."""

import argparse
import os

import made_weights
import naive_sequence
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import checkpoint, load_checkpoint
from small_models import make

import mmv2m.models  # noqa: F401
from mmv2m.utils.official_weights import ALL_CONVERTERS, recognise
from mmv2m.utils.released_weights import _released_names

ARCH = dict(embed_dims=8, depths=(1, 2, 1, 1), state_dims=1)
SEQUENCE = dict(ARCH, depths=(1, 1, 1, 1), state_dims=2)
LOCAL = dict(SEQUENCE, scans=(('h', 'v', 'w2', 'w3'),) * 4)
PLAIN = dict(ARCH, depths=(2, 2, 2, 2), stem_convs=1, conv_behind_first=True)
SMALL = dict(img_size=12, patch_size=4)
RELEASED = dict(
    type='V2M', arch=SEQUENCE, geometry='released', class_token='mean', img_size=12, patch_size=4
)


def build(backbone, width, classes=5):
    head = dict(type='LinearClsHead', num_classes=classes, in_channels=width)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))


def released_weights():
    weights = build(RELEASED, 8).state_dict()
    released = {old: torch.randn_like(weights[new]) for old, new in _released_names(4).items()}
    return released | dict(pos_embed=released['pos_embed'].flatten(1, 2))


FAMILIES = {
    'vim': (naive_sequence.vim_weights(9), dict(type='Vim', arch=SEQUENCE, **SMALL)),
    'local-vim': (naive_sequence.local_vim_weights(3), dict(type='LocalVim', arch=LOCAL, **SMALL)),
    'vmamba': (
        made_weights.vmamba_weights(8, ARCH['depths'], expand=1, states=1, ffn_ratio=4),
        dict(type='VMamba', arch=ARCH),
    ),
    'plain-mamba': (
        made_weights.plain_mamba_weights(8, blocks=8, side=2, states=1),
        dict(type='PlainMamba', arch=PLAIN, img_size=32),
    ),
    'efficient-vmamba': (
        made_weights.efficient_vmamba_weights(8, ARCH['depths'], states=1),
        dict(type='EfficientVMamba', arch=ARCH),
    ),
    'v2m': (released_weights(), RELEASED),
}


@pytest.fixture(params=FAMILIES)
def official(request, tmp_path):
    """A family's name, its weights here, its backbone, and a file as its authors' code saves it."""
    weights, backbone = FAMILIES[request.param]
    weights = {name: value.float() for name, value in weights.items()}
    wrapped = {f'module.{name}': value for name, value in weights.items()}
    torch.save(dict(model=wrapped, args=argparse.Namespace(lr=1)), tmp_path / 'official.pth')
    converted = ALL_CONVERTERS[request.param](weights)
    return request.param, weights, converted, backbone, str(tmp_path / 'official.pth')


def same(loaded, expected, prefix=''):
    wanted = {k.removeprefix(prefix): v for k, v in expected.items() if k.startswith(prefix)}
    return loaded.keys() == wanted.keys() and all(
        torch.equal(loaded[name], wanted[name].to(loaded[name].dtype)) for name in wanted
    )


def test_official_files_load(official, monkeypatch):
    family, weights, converted, backbone, path = official
    assert recognise(weights) == family
    assert recognise(converted) is None
    said = []
    monkeypatch.setattr('mmv2m.utils.checkpoints.print_log', lambda line, **_: said.append(line))
    classifier = build(backbone, converted['head.fc.weight'].shape[1])
    load_checkpoint(classifier, path)
    assert same(classifier.state_dict(), converted)
    (line,) = said
    assert line.startswith(f'{path} holds official weights ({family}), which are converted')
    assert ("geometry='released'" in line) == (family == 'v2m')

    for prefix in (None, 'backbone.'):
        init = dict(type='Pretrained', checkpoint=path, prefix=prefix)
        built = MODELS.build(dict(backbone, init_cfg=init))
        built.init_weights()
        assert same(built.state_dict(), converted, 'backbone.')

    plain = MODELS.build(backbone)
    before = dict(weights)
    plain.load_state_dict(weights)
    assert weights.keys() == before.keys()
    assert same(plain.state_dict(), converted, 'backbone.')


def test_another_familys_file_is_refused(official):
    family, _, _, backbone, path = official
    other = FAMILIES['vim' if family != 'vim' else 'vmamba'][1]
    with pytest.raises(RuntimeError, match=rf'\({other["type"]}\).* {backbone["type"]}, so'):
        load_checkpoint(MODELS.build(other), path)


def test_official_weights_that_cannot_be_converted(tmp_path):
    weights = dict(FAMILIES['vim'][0])
    del weights['norm_f.weight']
    torch.save(dict(model=weights), tmp_path / 'part.pth')
    with pytest.raises(ValueError, match=r"part.pth: not the weights of a Vim: .*'norm_f.weight'"):
        load_checkpoint(build(FAMILIES['vim'][1], 8), str(tmp_path / 'part.pth'))


def test_names_that_begin_otherwise(tmp_path):
    source, path = make(), str(tmp_path / 'weights.pth')
    for prefix in ('', 'backbone.', 'student.backbone.'):
        torch.save({f'{prefix}{k}': v + 1 for k, v in source.state_dict().items()}, path)
        model = make(init_cfg=dict(type='Pretrained', checkpoint=path))
        if prefix == 'student.backbone.':
            with pytest.raises(RuntimeError, match="prefix='student.backbone.' would fit"):
                model.init_weights()
            continue
        model.init_weights()
        assert torch.equal(model.norm3.weight, source.norm3.weight + 1)
    # What mmengine only warns of: a file that fits a third of the backbone, and other widths.
    part = {k: v for i, (k, v) in enumerate(source.state_dict().items()) if i % 3 == 0}
    torch.save(part, path)
    with pytest.raises(RuntimeError, match=r'fill \d+ of the \d+ tensors .* is missing'):
        load_checkpoint(make(), path)
    torch.save(make(arch=dict(embed_dims=32, depths=(1, 1, 1, 1), state_dims=2)).state_dict(), path)
    with pytest.raises(RuntimeError, match=r'size mismatch for .*\(32.* another arch'):
        load_checkpoint(make(), path)
    # The same widths, but more blocks than there are here.
    deep = make(arch=dict(embed_dims=16, depths=(2, 2, 2, 2), state_dims=2)).state_dict()
    torch.save(deep, path)
    with pytest.raises(RuntimeError, match=r'no place for, such as stages.0.1.* another arch'):
        load_checkpoint(make(), path)
    # Who asks PyTorch for a part gets it.
    assert make().load_state_dict(part, strict=False).missing_keys


class Runs:
    """Would run a command where it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize('prefix', [None, 'backbone.'])
@pytest.mark.parametrize('old_format', [False, True])
def test_no_checkpoint_runs_code(tmp_path, prefix, old_format):
    trace, path = tmp_path / 'trace', str(tmp_path / 'evil.pth')
    state_dict = {f'{prefix or ""}{k}': v for k, v in make().state_dict().items()}
    evil = dict(state_dict=state_dict, meta=Runs(f'touch {trace}'))
    torch.save(evil, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(ValueError, match=r'evil.pth: refused, .* load posix.system'):
        make(init_cfg=dict(type='Pretrained', checkpoint=path, prefix=prefix)).init_weights()
    with pytest.raises(ValueError, match='posix.system'):
        load_checkpoint(make(), path)
    with pytest.raises(ValueError, match='posix.system'):  # from a cache of the web, no download
        load_checkpoint(make(), 'https://example.org/evil.pth')
    assert not trace.exists()


@pytest.fixture(autouse=True)
def a_cache_of_downloads(tmp_path, monkeypatch):
    """What is asked of the web comes from the test's folder."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    (tmp_path / 'hub').mkdir()
    (tmp_path / 'hub' / 'checkpoints').symlink_to(tmp_path)


def test_an_entry_of_another_name_and_a_storage_backends_bytes(tmp_path):
    source, path = make(), tmp_path / 'weights.pth'
    wrapped = {f'module.{k}': v + 1 for k, v in source.state_dict().items()}
    torch.save(dict(model=None, ema_model=wrapped), path)
    model = make()
    load_checkpoint(model, str(path))
    assert torch.equal(model.norm3.weight, source.norm3.weight + 1)
    with open(path, 'rb') as file:
        read = checkpoint._safe_torch_load(file, map_location='cpu')
    assert torch.equal(read['state_dict']['norm3.weight'], source.norm3.weight + 1)
