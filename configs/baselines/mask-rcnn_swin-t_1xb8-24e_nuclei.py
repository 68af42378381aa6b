# Swin-T in the place of V2M-S*, everything else the same.
_base_ = '../mask-rcnn_v2m-s_1xb8-24e_nuclei.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.2,
    )
)
