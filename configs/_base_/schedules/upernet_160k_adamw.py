# The paper's schedule: AdamW, learning rate 6e-5, weight decay 0.01, 160,000 iterations at a batch
# of 16. Warm-up and linear decay are mmseg's for Swin, which VMamba and LocalMamba use too. Mixed
# precision is fp16 with a dynamic loss scale, unless optim_wrapper.dtype says bfloat16; the scans
# keep their state in fp32. Biases, norms and D are one-dimensional, hence flat_decay_mult.
max_iters = 160000
optim_wrapper = dict(
    constructor='mmv2m.GroupedOptimWrapperConstructor',
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={
            '.A_log': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)
