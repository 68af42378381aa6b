# Table 3, VMamba-T: 62 M parameters, 47.9 mIoU, 48.8 multi-scale.
_base_ = '../upernet_v2m-s-star_8xb2-160k_ade20k-512x512.py'

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
