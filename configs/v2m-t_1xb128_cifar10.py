# V2M-T on CIFAR-10: 32 x 32 images, patch 4, 8 x 8 patches and the class tokens.
_base_ = [
    '_base_/models/v2m-t.py',
    '_base_/datasets/cifar10_bs128.py',
    '_base_/schedules/imagenet_bs512_adamw_300e.py',
    '_base_/default_runtime.py',
]

model = dict(
    backbone=dict(img_size=32, patch_size=4),
    head=dict(num_classes=10, loss=dict(label_smooth_val=0.1, num_classes=10)),
    train_cfg=None,
)

max_epochs = 50
optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-3, end=2, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        begin=2,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=128)
