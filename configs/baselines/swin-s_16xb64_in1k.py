# Table 1, Swin-S: 50 M parameters, 8.7 G FLOPs, 83.2% top-1.
_base_ = 'mmpretrain::swin_transformer/swin-small_16xb64_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
