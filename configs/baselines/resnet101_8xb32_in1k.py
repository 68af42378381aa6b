# Table 1, ResNet-101: 45 M parameters, 78.3% top-1.
_base_ = 'mmpretrain::resnet/resnet101_8xb32_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
