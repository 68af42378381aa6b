# scikit-learn's handwritten digits: part of that package, nothing to download.
dataset_type = 'Digits'
data_preprocessor = dict(
    num_classes=10,
    # The training images' own mean and standard deviation; the three channels are equal.
    mean=[77.8, 77.8, 77.8],
    std=[95.9, 95.9, 95.9],
    to_rgb=False,
)

# No shifts: one pixel is half a patch, and learning both halves takes far longer than the demo has.
train_pipeline = [
    dict(
        type='Rotate',
        angle=10,
        prob=0.5,
        random_negative_prob=0.5,
        pad_val=0,
        interpolation='bilinear',
    ),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]

# Loading is cheaper than handing images over from another process. Without workers there are none
# to keep, which mmpretrain's own tools have to be told.
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type=dataset_type, split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=120,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type=dataset_type, split='test', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))

test_dataloader = val_dataloader
test_evaluator = val_evaluator

# Turned a little either way; a mirrored digit is none.
tta_pipeline = [
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(
                    type='Rotate',
                    angle=angle,
                    prob=1.0,
                    random_negative_prob=0.0,
                    pad_val=0,
                    interpolation='bilinear',
                )
                for angle in (0, -10, 10)
            ],
            test_pipeline,
        ],
    )
]
