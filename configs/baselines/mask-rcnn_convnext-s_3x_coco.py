# Table 2, ConvNeXt-S, 3x: 70 M parameters, 47.9 box AP, 42.9 mask AP.
# mmdet has ConvNeXt-S in Cascade Mask R-CNN only: drop path, weights and decay of the learning rate
# by layer are that config's.
_base_ = './mask-rcnn_convnext-t_3x_coco.py'

checkpoint = 'https://mmassets.onedl.ai/mmclassification/v0/convnext/downstream/convnext-small_3rdparty_32xb128-noema_in1k_20220301-303e75e3.pth'  # noqa: E501
model = dict(backbone=dict(arch='small', drop_path_rate=0.6, init_cfg=dict(checkpoint=checkpoint)))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
