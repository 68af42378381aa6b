# Mask R-CNN on PlainMamba-Adapter-L2, 1x: 46.0 box AP, 40.6 mask AP, by its authors' weights.
_base_ = './mask-rcnn_plain-mamba-l1_1x_coco.py'

model = dict(
    backbone=dict(arch='L2', drop_path_rate=0.2),
    neck=dict(in_channels=[384, 384, 384, 384]),
)
