# Table 4, UL + LR: 75.9% top-1, 92.9% top-5.
_base_ = '../v2m-t_8xb64_in1k.py'

model = dict(backbone=dict(corners=('UL', 'LR')))
