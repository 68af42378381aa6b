# Table 1, PlainMamba-L1: 7 M parameters, 3.0 G FLOPs, 77.9% top-1.
# Its authors' recipe, whose script for L1 warms up for 15 epochs and takes no moving average.
_base_ = [
    '../_base_/models/state-space.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='PlainMamba', arch='L1', drop_path_rate=0.2), head=dict(in_channels=192)
)
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=15, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=2e-5, begin=15, end=300),
]
custom_hooks = [dict(type='CUDAGraphHook')]
auto_scale_lr = dict(base_batch_size=2048)
