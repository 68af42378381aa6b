# Table 1, Vim-T: 7 M parameters, 1.5 G FLOPs, 75.8% top-1.
# Its authors' recipe (pt-vim-t.sh): weight decay 0.1, no drop path, a learning rate of 5e-4 for
# each 512 images of a batch, images repeated three times; but that A_log does not decay. They
# publish 76.1%.
_base_ = [
    '../_base_/models/state-space.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../_base_/schedules/imagenet_bs512_adamw_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(type='Vim', arch='tiny'), head=dict(in_channels=192))
train_dataloader = dict(batch_size=128, sampler=dict(type='RepeatAugSampler', shuffle=True))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=5, end=300),
]
auto_scale_lr = dict(base_batch_size=1024)
