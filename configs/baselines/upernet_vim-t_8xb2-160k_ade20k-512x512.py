# Table 3, Vim-T: 13 M parameters, 41.0 mIoU.
# The paper's schedule. That of Vim's authors is 60,000 iterations at a batch of 32, learning rate
# 1e-4, weight decay 0.05, layer-wise decay 0.92.
_base_ = '../upernet_v2m-t_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='Vim',
        arch='tiny',
        img_size=512,
        class_token='mean',
        out_type='featmap',
        out_features='mixer',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
    )
)
