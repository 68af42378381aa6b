# UPerNet on VMamba-T [s2l5]: 48.3 mIoU, 48.6 multi-scale, by its authors' weights.
_base_ = '../baselines/upernet_vmamba-t_8xb2-160k_ade20k-512x512.py'

model = dict(backbone=dict(arch='tiny-s2l5'))
