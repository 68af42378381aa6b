# VMamba-S [s1l20]: 83.3% top-1, by its authors' weights.
_base_ = '../baselines/vmamba-t_8xb128_in1k.py'

model = dict(backbone=dict(arch='small-s1l20', drop_path_rate=0.3))
