# Table 1, ResNet-18: 12 M parameters, 69.8% top-1.
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
