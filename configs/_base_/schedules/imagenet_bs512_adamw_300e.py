# The paper's schedule: 300 epochs at a batch of 512, AdamW, learning rate 5e-4, weight decay 0.05,
# cosine. The paper names no warm-up; five epochs from 1e-6, down to 1e-5 at the end, are what the
# authors' scripts do. Biases, norms and D are one-dimensional, hence flat_decay_mult.
optim_wrapper = dict(
    constructor='mmv2m.GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={
            '.A_log': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
            '.class_token': dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-3, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=5, end=300),
]
custom_hooks = [dict(type='CUDAGraphHook')]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=512)
