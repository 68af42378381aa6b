# Vim-T on 8 x 8 patches: 6.8 M parameters.
_base_ = '../_base_/cifar10_study.py'

model = dict(backbone=dict(type='Vim', arch='tiny', img_size=32, patch_size=4))
