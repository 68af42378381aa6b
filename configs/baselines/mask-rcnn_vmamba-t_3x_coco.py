# Table 2, VMamba-T, 3x: 50 M parameters, 48.8 box AP, 43.7 mask AP.
# Its authors' recipe is mmdet's for Swin; stochastic depth 0.2, for S too.
_base_ = '../mask-rcnn_v2m-s_3x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='VMamba',
        arch='tiny',
        out_type='featmap',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
    )
)
