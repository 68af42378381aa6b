# DeiT-T on 8 x 8 patches, 15 blocks instead of 12: 6.7 M parameters.
_base_ = '../_base_/cifar10_study.py'

model = dict(
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=192, num_layers=15, num_heads=3, feedforward_channels=768),
        img_size=32,
        patch_size=4,
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    )
)
