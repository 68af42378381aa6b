# Figure 4 (a): no class tokens, the patches' mean.
_base_ = './v2m-t_cifar10.py'

model = dict(backbone=dict(class_token='mean'))
