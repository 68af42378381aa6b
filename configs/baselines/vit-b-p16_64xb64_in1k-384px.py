# Table 1, ViT-B/16: 86 M parameters, 55.4 G FLOPs, 77.9% top-1, at 384 x 384.
_base_ = 'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k-384px.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
