# V2M-S* with 44 channels instead of 96, from 8 x 8 cells on: 6.3 M parameters.
_base_ = '../_base_/cifar10_study.py'

model = dict(
    backbone=dict(
        type='V2M',
        arch=dict(
            embed_dims=44,
            depths=(2, 2, 8, 2),
            layout='pyramid',
            expand=1,
            state_dims=1,
            gated=False,
            share='opposite',
            ffn_ratio=4,
        ),
    ),
    head=dict(in_channels=352),
)
