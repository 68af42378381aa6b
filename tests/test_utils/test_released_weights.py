import torch
from mmengine.registry import MODELS, DefaultScope
from small_models import PLAIN

import mmv2m.models  # noqa: F401
from mmv2m.utils import convert_released_weights
from mmv2m.utils.released_weights import _released_names


def test_every_weight_has_its_place():
    backbone = dict(
        type='V2M', arch=PLAIN, img_size=32, patch_size=8, geometry='released', class_token='mean'
    )
    head = dict(type='LinearClsHead', num_classes=3, in_channels=16)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))
    weights = model.state_dict()
    names = _released_names(depth=4)
    assert sorted(names.values()) == sorted(weights)
    released = {old: torch.randn_like(weights[new]) for old, new in names.items()}
    released['pos_embed'] = released['pos_embed'].flatten(1, 2)
    model.load_state_dict(convert_released_weights(released))
    mixer = model.backbone.stages[2][0].mixer
    assert torch.equal(mixer.ssm['all'].columns.A_log, released['layers.2.mixer.A_2_log'])
    assert torch.equal(mixer.ssm['all'].rows.D, released['layers.2.mixer.D'])
