# UPerNet on VMamba-B [s2l15]: 51.0 mIoU, 51.6 multi-scale, by its authors' weights.
_base_ = '../baselines/upernet_vmamba-t_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.6),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
