# The pyramid with the exact recurrence: 6.3 M parameters. With one state a channel that is 0.4%
# more than v2m-star_cifar10.py has, and both have 14 blocks.
_base_ = './v2m-star_cifar10.py'

model = dict(backbone=dict(recurrence='coupled'))
