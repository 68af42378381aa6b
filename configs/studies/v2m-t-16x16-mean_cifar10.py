# 16 x 16 tokens instead of 8 x 8, mean pooling.
_base_ = './v2m-t-mean_cifar10.py'

model = dict(backbone=dict(patch_size=2))
