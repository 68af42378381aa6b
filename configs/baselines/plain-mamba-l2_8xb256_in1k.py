# Table 1, PlainMamba-L2: 25 M parameters, 8.1 G FLOPs, 81.6% top-1.
# Its authors' recipe. The printed Params leave the head's 0.4 M out.
_base_ = [
    '../_base_/models/state-space.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='PlainMamba', arch='L2', drop_path_rate=0.2), head=dict(in_channels=384)
)
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=2e-5, begin=20, end=300),
]
auto_scale_lr = dict(base_batch_size=2048)
