# RetinaNet on PlainMamba-Adapter-L3, 1x: 44.8 box AP, by its authors' weights.
_base_ = './retinanet_plain-mamba-l1_1x_coco.py'

model = dict(
    backbone=dict(arch='L3', deform_num_heads=8, drop_path_rate=0.3),
    neck=dict(in_channels=[448, 448, 448, 448]),
)
