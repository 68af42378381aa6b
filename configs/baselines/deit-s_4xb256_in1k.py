# Table 1, DeiT-S: 22 M parameters, 4.6 G FLOPs, 79.9% top-1.
_base_ = 'mmpretrain::deit/deit-small_4xb256_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
