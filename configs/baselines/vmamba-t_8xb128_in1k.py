# Table 1, VMamba-T: 30 M parameters, 4.9 G FLOPs, 82.6% top-1.
# VMamba-T [s1l8] by its authors' recipe, but that A_log and the time steps' biases do not decay.
_base_ = [
    '../_base_/models/state-space.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='VMamba', arch='tiny', drop_path_rate=0.2), head=dict(in_channels=768)
)
train_dataloader = dict(batch_size=128)
