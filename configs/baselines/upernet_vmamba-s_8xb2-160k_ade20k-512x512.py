# Table 3, VMamba-S: 82 M parameters, 50.6 mIoU, 51.2 multi-scale.
_base_ = './upernet_vmamba-t_8xb2-160k_ade20k-512x512.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.3))
