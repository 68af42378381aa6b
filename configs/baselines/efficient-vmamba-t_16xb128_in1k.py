# Table 1, EffVMamba-T: 6 M parameters, 0.8 G FLOPs, 76.5% top-1.
# The recipe of the authors' training log: batch 2048, learning rate 2e-3, weight decay 0.04, mixup
# 0.2, drop path 0.1. The log's RandAugment does not increase with magnitude; mmpretrain's does.
_base_ = [
    '../_base_/models/state-space.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='EfficientVMamba', arch='tiny', drop_path_rate=0.1),
    head=dict(in_channels=384),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.2), dict(type='CutMix', alpha=1.0)]),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.04), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-5, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=20, end=300),
]
auto_scale_lr = dict(base_batch_size=2048)
