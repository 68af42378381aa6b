# Table 1, EffVMamba-S: 11 M parameters, 1.3 G FLOPs, 78.7% top-1.
# As T, by the authors' training log; their published config has other widths than the log.
_base_ = './efficient-vmamba-t_16xb128_in1k.py'

model = dict(backbone=dict(arch='small'), head=dict(in_channels=512))
