# Table 1, VMamba-S: 50 M parameters, 8.7 G FLOPs, 83.6% top-1.
# VMamba-S [s2l15] by its authors' recipe, but that A_log and the time steps' biases do not decay.
_base_ = './vmamba-t_8xb128_in1k.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.3))
