# V2M-T with UPerNet, the model of Table 3, on CamVid from scratch: other data, size and schedule.
_base_ = ['_base_/models/upernet_v2m-t.py', '_base_/camvid_1k.py']

model = dict(
    data_preprocessor=dict(size=(352, 480)),
    backbone=dict(img_size=(352, 480)),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
    # A window as large as the image need not slide.
    test_cfg=dict(_delete_=True, mode='whole'),
)
