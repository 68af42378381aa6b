# Table 3, LocalVim-S: 58 M parameters, 46.4 mIoU, 47.5 multi-scale.
_base_ = '../upernet_v2m-s-local_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='LocalVim',
        arch='small',
        img_size=512,
        norm_cfg=dict(type='LN'),
        out_type='featmap',
        out_features='mixer',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
    )
)
