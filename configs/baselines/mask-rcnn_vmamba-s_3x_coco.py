# Table 2, VMamba-S, 3x: 70 M parameters, 49.9 box AP, 44.2 mask AP.
_base_ = './mask-rcnn_vmamba-t_3x_coco.py'

model = dict(backbone=dict(arch='small'))
