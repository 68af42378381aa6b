# Table 1, ResNet-50: 25 M parameters, 77.2% top-1.
_base_ = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
