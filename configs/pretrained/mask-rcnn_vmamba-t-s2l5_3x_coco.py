# Mask R-CNN on VMamba-T [s2l5], 3x: 48.9 box AP, 43.7 mask AP, by its authors' weights.
_base_ = '../baselines/mask-rcnn_vmamba-t_3x_coco.py'

model = dict(backbone=dict(arch='tiny-s2l5'))
