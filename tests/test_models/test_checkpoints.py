import copy
import pickle
import subprocess
import sys

import pytest
import tiny_backbones
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from small_models import ARCHS, PLAIN, WIDTHS, make

import mmv2m.models

KINDS = list(ARCHS)


@pytest.mark.parametrize('kind', KINDS)
def test_state_dict_and_copies_round_trip(kind, tmp_path):
    model, x = make(kind).eval(), torch.rand(1, 3, 32, 32)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    loaded = make(kind).eval()
    loaded.load_state_dict(torch.load(tmp_path / 'model.pth'))
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x)[0], model(x)[0])


@pytest.mark.parametrize('kind', tiny_backbones.KINDS)
def test_models_built_without_memory(kind):
    """What is no weight has its values too, once the weights are loaded."""
    model, x = tiny_backbones.make(kind), tiny_backbones.make_image(kind)
    cls, settings = tiny_backbones.KINDS[kind]
    with torch.device('meta'):
        assigned = cls(**settings)
    assigned.load_state_dict(model.state_dict(), assign=True)
    emptied = cls(**settings).double().to('meta').to_empty(device='cpu')
    for buffer in emptied.buffers():
        buffer.fill_(1)
    emptied.load_state_dict(model.state_dict())
    for other in (assigned.eval(), emptied.eval()):
        assert torch.equal(other(x)[0], model(x)[0])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('img_size', [48, (24, 56)])
def test_another_image_size_loads(kind, img_size):
    small, large = make(kind), make(kind, img_size=img_size)
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
        make().load_state_dict(make(arch=dict(PLAIN, embed_dims=32)).state_dict())


@pytest.mark.parametrize('kind', KINDS)
def test_dense_backbone_loads_a_classifiers_weights(kind, tmp_path):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=make(kind),
                head=dict(type='LinearClsHead', num_classes=3, in_channels=WIDTHS[kind][-1]),
            )
        )
    for parameter in classifier.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    torch.save(dict(state_dict=classifier.state_dict()), tmp_path / 'model.pth')
    trained = classifier.backbone.state_dict()
    settings = dict(class_token='mean', out_indices=(0, 1, 2, 3), out_type='featmap')

    # By hand: what the classifier has not are the norms behind the other outputs.
    dense = make(kind, **settings)
    keys = dense.load_state_dict(trained, strict=False)
    others = [k for k in dense.state_dict() if k.startswith(('norm0', 'norm1', 'norm2'))]
    assert keys.missing_keys == others
    assert keys.unexpected_keys == []

    # By a config: the head is left out, nothing else is.
    dense = make(
        kind,
        **settings,
        init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'model.pth'), prefix='backbone.'
        ),
    )
    before = {k: v.clone() for k, v in dense.state_dict().items()}
    dense.init_weights()
    for name, value in dense.state_dict().items():
        assert torch.equal(value, before[name] if name in others else trained[name])

    # Another classifier, with mean pooling: every key.
    torch.save(trained, tmp_path / 'backbone.pth')
    load_checkpoint(make(kind, class_token='mean'), str(tmp_path / 'backbone.pth'), strict=True)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg', 'mmengine'])
@pytest.mark.parametrize('name', ['V2M', 'mmv2m.V2M'])
def test_registered_for_every_library(scope, name):
    if scope == 'mmdet':
        pytest.importorskip('mmcv._ext', reason='mmdet needs operators that mmcv-lite has not')
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(dict(type=name, arch=PLAIN, img_size=32, patch_size=8))
    assert isinstance(model, mmv2m.models.V2M)


def test_scoped_name_needs_no_import():
    code = "from mmengine.registry import MODELS; print(MODELS.get('mmv2m.V2M').__name__)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith('V2M')
