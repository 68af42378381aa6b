# VMamba-B [s2l15]: 83.9% top-1, by its authors' weights.
_base_ = '../baselines/vmamba-t_8xb128_in1k.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.6), head=dict(in_channels=1024))
