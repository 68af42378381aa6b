# Table 4, UL + LR + UR. All four are v2m-t_cifar10.py.
_base_ = './v2m-t_cifar10.py'

model = dict(backbone=dict(corners=('UL', 'LR', 'UR')))
