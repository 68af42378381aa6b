# Table 3, V2M-S + local window: 58 M parameters, 46.6 mIoU, 47.7 multi-scale.
# Weights: see upernet_v2m-t-local_8xb2-160k_ade20k-512x512.py.
_base_ = './upernet_v2m-t-local_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='local-small'),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
