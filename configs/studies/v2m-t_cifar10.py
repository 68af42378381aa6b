# V2M-T as in the paper, class tokens in the middle, on 8 x 8 patches: 6.5 M parameters.
_base_ = '../_base_/cifar10_study.py'

model = dict(backbone=dict(type='V2M', arch='tiny', img_size=32, patch_size=4))
