# Table 3, LocalVim-T: 36 M parameters, 43.4 mIoU, 44.4 multi-scale.
_base_ = '../upernet_v2m-t-local_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='LocalVim',
        arch='tiny',
        img_size=512,
        norm_cfg=dict(type='LN'),
        out_type='featmap',
        out_features='mixer',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
    )
)
