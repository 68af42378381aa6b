# Table 2, VMamba-S, 1x: 70 M parameters, 48.7 box AP, 43.7 mask AP.
_base_ = './mask-rcnn_vmamba-t_1x_coco.py'

model = dict(backbone=dict(arch='small'))
