# Table 1, Swin-B: 88 M parameters, 15.4 G FLOPs, 83.5% top-1.
_base_ = 'mmpretrain::swin_transformer/swin-base_16xb64_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
