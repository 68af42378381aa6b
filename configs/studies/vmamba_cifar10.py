# VMamba-T with 44 channels instead of 96, from 8 x 8 cells on: 6.2 M parameters.
_base_ = '../_base_/cifar10_study.py'

model = dict(
    backbone=dict(type='VMamba', arch=dict(embed_dims=44, depths=(2, 2, 8, 2))),
    head=dict(in_channels=352),
)
