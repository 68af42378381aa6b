# Table 2, Swin-T, 1x: 48 M parameters, 42.7 box AP, 39.3 mask AP.
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
