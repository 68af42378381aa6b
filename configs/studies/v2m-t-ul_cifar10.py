# Table 4, UL.
_base_ = './v2m-t_cifar10.py'

model = dict(backbone=dict(corners=('UL',)))
