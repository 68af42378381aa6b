# Table 4, UL + LR + UR: 75.9% top-1, 93.0% top-5. All four are v2m-t_8xb64_in1k.py.
_base_ = '../v2m-t_8xb64_in1k.py'

model = dict(backbone=dict(corners=('UL', 'LR', 'UR')))
