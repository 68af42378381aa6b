# The pyramid from one corner: what v2m-star-coupled-ul_cifar10.py is held against.
_base_ = './v2m-star_cifar10.py'

model = dict(backbone=dict(corners=('UL',)))
