# VMamba-T [s2l5]: 82.5% top-1, by its authors' weights.
_base_ = '../baselines/vmamba-t_8xb128_in1k.py'

model = dict(backbone=dict(arch='tiny-s2l5'))
