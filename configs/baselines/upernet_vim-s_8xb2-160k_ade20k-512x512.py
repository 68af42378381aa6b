# Table 3, Vim-S: 46 M parameters, 44.9 mIoU.
_base_ = '../upernet_v2m-s_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='Vim',
        arch='small',
        img_size=512,
        class_token='mean',
        out_type='featmap',
        out_features='mixer',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
    )
)
