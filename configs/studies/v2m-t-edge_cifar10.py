# Figure 4 (b): class tokens at the edge. (c), in the middle, is v2m-t_cifar10.py.
_base_ = './v2m-t_cifar10.py'

model = dict(backbone=dict(class_token='edge'))
