# Table 1, V2M-S + local window: 28 M parameters, 5.4 G FLOPs, 81.3% top-1.
_base_ = './v2m-t-local_8xb64_in1k.py'

model = dict(backbone=dict(arch='local-small'), head=dict(in_channels=384))
