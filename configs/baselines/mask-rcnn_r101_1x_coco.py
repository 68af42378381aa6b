# Table 2, ResNet-101, 1x: 63 M parameters. The paper prints ResNet-50's figures in this row, 38.2
# box AP and 34.7 mask AP.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py'

optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
