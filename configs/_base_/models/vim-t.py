# Vim-T of Table 1: 224 x 224, patch 16, a class token in the middle of the sequence.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='Vim', arch='tiny', img_size=224, patch_size=16),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        topk=(1, 5),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
