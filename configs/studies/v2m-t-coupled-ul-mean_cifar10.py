# The exact recurrence from one corner, mean pooling.
_base_ = './v2m-t-coupled-mean_cifar10.py'

model = dict(backbone=dict(corners=('UL',)))
