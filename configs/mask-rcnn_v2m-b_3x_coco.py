# Table 2, V2M-B*, 3x: 70 M parameters, 50.0 box AP, 44.3 mask AP.
# Weights: see mask-rcnn_v2m-s_3x_coco.py.
_base_ = './mask-rcnn_v2m-s_3x_coco.py'

model = dict(backbone=dict(arch='pyramid-base'))
