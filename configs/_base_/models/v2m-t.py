# V2M-T of Table 1: 224 x 224, patch 16, a row and a column of class tokens in the middle.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='V2M', arch='tiny', img_size=224, patch_size=16, class_token='middle'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        topk=(1, 5),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    train_cfg=dict(augments=dict(type='Mixup', alpha=0.8)),
)
