import copy
import pickle
import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint

import mmv2m.models
from mmv2m.models import V2M

ARCH = dict(embed_dims=16, depths=(1, 1, 1, 1), state_dims=2)


def make(**settings):
    return V2M(**{**dict(arch=ARCH, img_size=32, patch_size=8), **settings})


def test_state_dict_and_copies_round_trip(tmp_path):
    model, x = make().eval(), torch.rand(1, 3, 32, 32)
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    loaded = make().eval()
    loaded.load_state_dict(torch.load(tmp_path / 'model.pth'))
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x)[0], model(x)[0])


@pytest.mark.parametrize('img_size', [48, (24, 56)])
def test_another_image_size_loads(img_size):
    small, large = make(), make(img_size=img_size)
    large.load_state_dict(small.state_dict())
    x = torch.rand(1, 3, *([img_size] * 2 if isinstance(img_size, int) else img_size))
    assert torch.allclose(large(x)[0], small(x)[0], atol=1e-5)


def test_loading_is_exact_at_the_same_size_and_leaves_the_checkpoint_alone():
    checkpoint = make().state_dict()
    before = {k: v.clone() for k, v in checkpoint.items()}
    loaded = make()
    loaded.load_state_dict(checkpoint)
    make(img_size=48).load_state_dict(checkpoint)
    make(class_token='mean').load_state_dict(checkpoint)
    assert checkpoint.keys() == before.keys()
    assert all(torch.equal(checkpoint[k], v) for k, v in before.items())
    assert all(torch.equal(v, before[k]) for k, v in loaded.state_dict().items())


def test_wrong_width_is_still_an_error():
    with pytest.raises(RuntimeError, match='size mismatch'):
        make().load_state_dict(make(arch=dict(ARCH, embed_dims=32)).state_dict())


def test_dense_backbone_loads_a_classifiers_weights(tmp_path):
    torch.save(dict(state_dict=make().state_dict()), tmp_path / 'model.pth')
    dense = make(class_token='mean', out_indices=(0, 3), out_type='featmap')
    missing = dense.load_state_dict(make().state_dict(), strict=False)
    assert missing.missing_keys == ['norm0.weight']
    assert missing.unexpected_keys == []
    load_checkpoint(make(class_token='mean'), str(tmp_path / 'model.pth'), strict=True)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg', 'mmengine'])
@pytest.mark.parametrize('name', ['V2M', 'mmv2m.V2M'])
def test_registered_for_every_library(scope, name):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(dict(type=name, arch=ARCH, img_size=32, patch_size=8))
    assert isinstance(model, mmv2m.models.V2M)


def test_scoped_name_needs_no_import():
    code = "from mmengine.registry import MODELS; print(MODELS.get('mmv2m.V2M').__name__)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith('V2M')
