# UPerNet on PlainMamba-L2: 46.8 mIoU, by its authors' weights.
_base_ = './upernet_plain-mamba-l1_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='L2', drop_path_rate=0.2),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
