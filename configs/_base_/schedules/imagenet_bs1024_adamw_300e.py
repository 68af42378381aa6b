# Swin's schedule, which VMamba and PlainMamba follow: 300 epochs at a batch of 1024, AdamW,
# learning rate 1e-3, weight decay 0.05, warm-up from 1e-6 over 20 epochs, cosine down to 1e-5,
# gradients clipped, and an exponential moving average of the weights, which is evaluated. Biases,
# norms and D are one-dimensional, hence flat_decay_mult.
optim_wrapper = dict(
    constructor='mmv2m.GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={
            '.A_log': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
            '.direction_embed': dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=20, end=300),
]
custom_hooks = [
    dict(type='CUDAGraphHook'),
    dict(
        type='EMAHook',
        ema_type='mmv2m.ForeachExponentialMovingAverage',
        momentum=1e-4,
        priority='ABOVE_NORMAL',
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=1024)
