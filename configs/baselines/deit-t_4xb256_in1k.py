# Table 1, DeiT-T: 6 M parameters, 1.3 G FLOPs, 72.2% top-1.
_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
