# Table 2, Swin-S, 3x: 69 M parameters, 48.2 box AP, 43.2 mask AP.
_base_ = 'mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
