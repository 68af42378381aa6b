# Table 1, RegNetY-4G: 21 M parameters, 4.0 G FLOPs, 80.0% top-1.
# mmpretrain has RegNetX only, so the model is timm's; the recipe is mmpretrain's for RegNetX.
_base_ = 'mmpretrain::regnet/regnetx-4.0gf_8xb64_in1k.py'

model = dict(
    backbone=dict(_delete_=True, type='TIMMBackbone', model_name='regnety_040'),
    head=dict(in_channels=1088),
)
# timm's weights, which backbone.pretrained=True loads, want RGB; the recipe's, PyCls's, want BGR.
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
custom_hooks = [dict(type='mmv2m.CUDAGraphHook')]
