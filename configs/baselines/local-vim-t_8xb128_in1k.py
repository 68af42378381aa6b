# Table 1, LocalVim-T: 8 M parameters, 1.5 G FLOPs, 76.2% top-1.
# The recipe is the authors' (local_mamba/config.yaml): a batch of 1024, 20 epochs of warm-up,
# weight decay 0.04, drop path 0.1, Mixup with alpha 0.2.
_base_ = [
    '../_base_/models/local-vim-t.py',
    '../_base_/datasets/imagenet_bs128_deit_224.py',
    '../_base_/schedules/imagenet_bs512_adamw_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(drop_path_rate=0.1))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.04))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=20, end=300),
]
auto_scale_lr = dict(base_batch_size=1024)
