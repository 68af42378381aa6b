# Table 1, V2M-B* (the pyramid): 50 M parameters, 9.6 G FLOPs, 83.8% top-1. Stochastic depth as in
# VMamba-S.
_base_ = './v2m-s-star_8xb64_in1k.py'

model = dict(backbone=dict(arch='pyramid-base', drop_path_rate=0.3))
