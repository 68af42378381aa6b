# ResNet-50 in the place of V2M-S*, everything else the same.
_base_ = '../mask-rcnn_v2m-s_1xb8-24e_nuclei.py'

model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=50, norm_eval=False),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
