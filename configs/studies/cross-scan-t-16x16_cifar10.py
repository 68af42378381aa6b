# VMamba's four scans over 16 x 16 tokens instead of 8 x 8.
_base_ = './cross-scan-t_cifar10.py'

model = dict(backbone=dict(patch_size=2))
