# The pyramid with the exact recurrence from one corner.
_base_ = './v2m-star-coupled_cifar10.py'

model = dict(backbone=dict(corners=('UL',)))
