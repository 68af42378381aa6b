# Mask R-CNN on VMamba-B [s2l15], 1x: 49.2 box AP, 44.1 mask AP, by its authors' weights.
_base_ = '../baselines/mask-rcnn_vmamba-t_1x_coco.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.6), neck=dict(in_channels=[128, 256, 512, 1024])
)
