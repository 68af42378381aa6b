# Table 4, UL: 75.2% top-1, 92.3% top-5.
_base_ = '../v2m-t_8xb64_in1k.py'

model = dict(backbone=dict(corners=('UL',)))
