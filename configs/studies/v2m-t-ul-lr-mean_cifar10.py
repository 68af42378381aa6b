# Two corners, mean pooling: what v2m-t-coupled-ul-lr-mean_cifar10.py is held against.
_base_ = './v2m-t-mean_cifar10.py'

model = dict(backbone=dict(corners=('UL', 'LR')))
