# UPerNet on the pyramid V2M-S*, as VMamba has it.
_base_ = './upernet.py'

model = dict(
    backbone=dict(
        type='V2M',
        arch='pyramid-small',
        class_token='mean',
        out_type='featmap',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
    )
)
