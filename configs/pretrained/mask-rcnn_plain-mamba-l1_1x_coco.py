# Mask R-CNN on PlainMamba-Adapter-L1, 1x: 44.1 box AP, 39.1 mask AP, by its authors' weights.
# As they have it: norms in the FPN, and four convolutions in the box head.
_base_ = '../_base_/mask-rcnn_1x_coco.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(_delete_=True, type='PlainMambaAdapter', arch='L1', drop_path_rate=0.1),
    neck=dict(in_channels=[192, 192, 192, 192], norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg)),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'pos_embed': dict(decay_mult=0.0),
            'level_embed': dict(decay_mult=0.0),
            'direction_embed': dict(decay_mult=0.0),
        }
    )
)
# As theirs: the adapter's BatchNorms share their statistics among GPUs.
sync_bn = 'torch'
