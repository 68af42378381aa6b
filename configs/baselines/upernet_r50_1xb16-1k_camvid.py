# ResNet-50 in the place of V2M-S*, everything else the same.
_base_ = '../upernet_v2m-s-star_1xb16-1k_camvid.py'

model = dict(
    backbone=dict(
        _delete_=True, type='ResNetV1c', depth=50, norm_cfg=dict(type='SyncBN', requires_grad=True)
    ),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
