# Table 1, Swin-T: 29 M parameters, 4.5 G FLOPs, 81.2% top-1.
_base_ = 'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
