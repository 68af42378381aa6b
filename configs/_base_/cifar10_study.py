# The recipe of every model in the reduced-scale study: CIFAR-10, 32 x 32, patches of 4, 10 epochs,
# bfloat16. It was chosen for none of the models: the learning rate is the paper's 5e-4 for 512
# images doubled for short training, everything else what such models are usually trained with, less
# what pays off in long trainings only: RandAugment, mixup, CutMix. Images are cropped and flipped.
_base_ = [
    './datasets/cifar10_bs128.py',
    './schedules/imagenet_bs512_adamw_300e.py',
    './default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original', num_classes=10),
        topk=(1, 5),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)

# A batch of 256 halves the launches of kernels, which bound models on images this small. Three
# workers keep up with them: more would only take the host's time from other runs.
train_dataloader = dict(batch_size=256, num_workers=3, drop_last=True)
val_dataloader = dict(batch_size=500)
test_dataloader = dict(batch_size=500)

# 10 epochs are 1,950 steps. At 2,000 images a second in training, which is assumed to be the least
# that an H200 makes of any of the models, they take 4.2 minutes.
max_epochs = 10
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=1.0,
    optimizer=dict(lr=1e-3),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(custom_keys={'.cls_token': dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-5, begin=1, end=max_epochs, convert_to_iter_based=True
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
# The one before stays until the next is written: a run may be stopped at any time.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=256)
