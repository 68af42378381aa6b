# Table 1, RegNetY-16G: 84 M parameters, 16.0 G FLOPs, 82.9% top-1.
_base_ = './regnety-4gf_8xb64_in1k.py'

model = dict(backbone=dict(model_name='regnety_160'), head=dict(in_channels=3024))
