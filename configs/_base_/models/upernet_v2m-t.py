# UPerNet on the plain V2M-T, as Vim has it: its one resolution becomes four (Vim's deconvolutions
# and pooling are mmseg's Feature2Pyramid), the head is as wide as the backbone, the test slides.
# Positions are learned for 32 x 32 patches and interpolated from a classifier's 14 x 14.
_base_ = './upernet.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        type='V2M',
        arch='tiny',
        img_size=512,
        class_token='mean',
        out_type='featmap',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
    ),
    neck=dict(type='Feature2Pyramid', embed_dim=192, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(in_channels=[192, 192, 192, 192], channels=192),
    auxiliary_head=dict(in_channels=192),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
