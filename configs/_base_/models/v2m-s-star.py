# V2M-S* of Table 1: the pyramid, with VMamba-T's stochastic depth; any image size.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='V2M', arch='pyramid-small', drop_path_rate=0.2),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        topk=(1, 5),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    train_cfg=dict(augments=dict(type='Mixup', alpha=0.8)),
)
