# Swin-T in the place of V2M-S*, everything else the same.
_base_ = '../upernet_v2m-s-star_1xb16-1k_camvid.py'

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
