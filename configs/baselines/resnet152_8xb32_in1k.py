# Table 1, ResNet-152: 60 M parameters, 78.6% top-1.
_base_ = 'mmpretrain::resnet/resnet152_8xb32_in1k.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
