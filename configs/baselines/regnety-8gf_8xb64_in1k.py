# Table 1, RegNetY-8G: 39 M parameters, 8.0 G FLOPs, 81.7% top-1.
_base_ = './regnety-4gf_8xb64_in1k.py'

model = dict(backbone=dict(model_name='regnety_080'), head=dict(in_channels=2016))
