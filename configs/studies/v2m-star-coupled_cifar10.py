# The pyramid with the exact recurrence: 6.3 M parameters, 0.4% more than v2m-star_cifar10.py with as
# many blocks, because a channel has one state only.
_base_ = './v2m-star_cifar10.py'

model = dict(backbone=dict(recurrence='coupled'))
