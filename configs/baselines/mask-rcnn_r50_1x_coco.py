# Table 2, ResNet-50, 1x: 44 M parameters, 38.2 box AP, 34.7 mask AP.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
