# UPerNet on V2M-T with local windows, as LocalMamba has it: all four maps at stride 16, the head
# 512 wide, the auxiliary head on the last map.
_base_ = './upernet.py'

model = dict(
    backbone=dict(
        type='V2M',
        arch='local-tiny',
        img_size=512,
        class_token='mean',
        out_type='featmap',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
    ),
    decode_head=dict(in_channels=[192, 192, 192, 192]),
    auxiliary_head=dict(in_channels=192, in_index=3),
)
