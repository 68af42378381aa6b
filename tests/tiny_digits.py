"""A V2M of some hundred weights on some of the digits, as a config: seconds on one CPU core."""

DIGITS_AND_MODEL = """
default_scope = 'mmpretrain'
custom_imports = dict(
    imports=['mmv2m.models', 'mmv2m.datasets', 'mmv2m.engine'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier', data_preprocessor=dict(num_classes=10, mean=[78.] * 3, std=[96.] * 3),
    backbone=dict(type='V2M', arch=dict(embed_dims=16, depths=(1, 0, 0, 0), state_dims=2),
                  img_size=8, patch_size=4, out_indices=0),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=16))
pipeline = [dict(type='PackInputs')]
train_dataloader = dict(batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler'),
    dataset=dict(type='Digits', split='train', indices=16, pipeline=pipeline))
val_dataloader = test_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='test', indices=16, pipeline=pipeline))
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
"""

TINY_DIGITS = (
    DIGITS_AND_MODEL
    + """
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = test_cfg = dict()
env_cfg = dict(mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='gloo'))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1),
                     checkpoint=dict(type='CheckpointHook', interval=1))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
"""
)
