# The pyramid with the exact recurrence: 6.3 M parameters. With one state a channel a block has less
# than 1% more parameters than V2M-S*'s, so that the blocks are as many.
_base_ = './v2m-star_cifar10.py'

model = dict(backbone=dict(recurrence='coupled'))
