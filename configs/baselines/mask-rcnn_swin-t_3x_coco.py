# Table 2, Swin-T, 3x: 48 M parameters, 46.0 box AP, 41.6 mask AP.
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
