# The pyramid from two corners: what v2m-star-coupled-ul-lr_cifar10.py is held against.
_base_ = './v2m-star_cifar10.py'

model = dict(backbone=dict(corners=('UL', 'LR')))
