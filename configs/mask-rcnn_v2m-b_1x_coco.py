# Table 2, V2M-B*, 1x: 70 M parameters, 48.9 box AP, 43.8 mask AP.
# Weights: see mask-rcnn_v2m-s_1x_coco.py.
_base_ = './mask-rcnn_v2m-s_1x_coco.py'

model = dict(backbone=dict(arch='pyramid-base'))
