# Table 1, DeiT-B: 86 M parameters, 17.5 G FLOPs, 81.8% top-1.
_base_ = 'mmpretrain::deit/deit-base_16xb64_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [
    dict(type='mmv2m.CUDAGraphHook'),
    dict(
        type='EMAHook',
        ema_type='mmv2m.ForeachExponentialMovingAverage',
        momentum=4e-5,
        priority='ABOVE_NORMAL',
    ),
]
