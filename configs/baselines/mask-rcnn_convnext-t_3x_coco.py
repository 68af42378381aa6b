# Table 2, ConvNeXt-T, 3x: 48 M parameters, 46.2 box AP, 41.7 mask AP.
_base_ = 'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'
