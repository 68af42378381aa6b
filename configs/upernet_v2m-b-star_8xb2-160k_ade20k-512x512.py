# Table 3, V2M-B*: 82 M parameters, 50.8 mIoU, 51.3 multi-scale.
# Weights: see upernet_v2m-s-star_8xb2-160k_ade20k-512x512.py.
_base_ = './upernet_v2m-s-star_8xb2-160k_ade20k-512x512.py'

model = dict(backbone=dict(arch='pyramid-base', drop_path_rate=0.3))
