# The exact recurrence from two corners, mean pooling.
_base_ = './v2m-t-coupled-mean_cifar10.py'

model = dict(backbone=dict(corners=('UL', 'LR')))
