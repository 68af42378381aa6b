# Table 1, PlainMamba-L3: 50 M parameters, 14.4 G FLOPs, 82.3% top-1.
# Its authors' recipe, but that its moving average is ten times faster from epoch 250.
_base_ = [
    '../_base_/models/state-space.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='PlainMamba', arch='L3', drop_path_rate=0.4), head=dict(in_channels=448)
)
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
