# RetinaNet on PlainMamba-Adapter-L2, 1x: 43.9 box AP, by its authors' weights.
_base_ = './retinanet_plain-mamba-l1_1x_coco.py'

model = dict(
    backbone=dict(arch='L2', drop_path_rate=0.2),
    neck=dict(in_channels=[384, 384, 384, 384]),
)
