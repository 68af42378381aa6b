# Mask R-CNN on VMamba-T [s2l5], 1x: 47.4 box AP, 42.7 mask AP, by its authors' weights.
_base_ = '../baselines/mask-rcnn_vmamba-t_1x_coco.py'

model = dict(backbone=dict(arch='tiny-s2l5'))
