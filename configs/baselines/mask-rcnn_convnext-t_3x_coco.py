# Table 2, ConvNeXt-T, 3x: 48 M parameters, 46.2 box AP, 41.7 mask AP.
_base_ = 'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'

# mmdet's settings by the name of each layer, as mmpretrain's backbone tells them.
optim_wrapper = dict(
    constructor='mmv2m.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.95, flat_decay_mult=0.0),
)
