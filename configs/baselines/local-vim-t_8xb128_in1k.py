# Table 1, LocalVim-T: 8 M parameters, 1.5 G FLOPs, 76.2% top-1.
# Its authors' recipe (local_mamba/config.yaml): 20 epochs of warm-up, weight decay 0.04, drop path
# 0.1, mixup 0.2; but that A_log does not decay.
_base_ = [
    '../_base_/models/state-space.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../_base_/schedules/imagenet_bs512_adamw_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='LocalVim', arch='tiny', drop_path_rate=0.1),
    head=dict(in_channels=192),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.2), dict(type='CutMix', alpha=1.0)]),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.04))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=20, end=300),
]
auto_scale_lr = dict(base_batch_size=1024)
