# UPerNet on PlainMamba-L3: 49.1 mIoU, by its authors' weights.
_base_ = './upernet_plain-mamba-l1_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='L3', drop_path_rate=0.3),
    decode_head=dict(in_channels=[448, 448, 448, 448]),
    auxiliary_head=dict(in_channels=448),
)
