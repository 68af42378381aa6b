# VMamba-B [s1l20]: 83.8% top-1, by its authors' weights.
_base_ = '../baselines/vmamba-t_8xb128_in1k.py'

model = dict(backbone=dict(arch='base-s1l20', drop_path_rate=0.5), head=dict(in_channels=1024))
