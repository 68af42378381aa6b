# V2M-S* with UPerNet, the model of Table 3, on CamVid from scratch: other data, size and schedule.
_base_ = ['_base_/models/upernet_v2m-s-star.py', '_base_/camvid_1k.py']

model = dict(
    data_preprocessor=dict(size=(352, 480)),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
)
