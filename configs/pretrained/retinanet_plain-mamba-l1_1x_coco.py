# RetinaNet on PlainMamba-Adapter-L1, 1x: 41.7 box AP, by its authors' weights.
# As they have it: norms in the FPN, the learning rate of Mask R-CNN, gradients clipped.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

custom_imports = dict(imports=['mmv2m.models'], allow_failed_imports=False)

# mmengine's hook waits for the GPU in every step to read the losses.
default_hooks = dict(runtime_info=dict(type='mmv2m.DeferredRuntimeInfoHook'))

model = dict(
    backbone=dict(_delete_=True, type='PlainMambaAdapter', arch='L1', drop_path_rate=0.1),
    neck=dict(
        in_channels=[192, 192, 192, 192],
        add_extra_convs='on_output',
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
)
optim_wrapper = dict(
    constructor='mmv2m.GroupedOptimWrapperConstructor',
    type='AmpOptimWrapper',
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={
            '.A_log': dict(decay_mult=0.0),
            'pos_embed': dict(decay_mult=0.0),
            'level_embed': dict(decay_mult=0.0),
            'direction_embed': dict(decay_mult=0.0),
        },
    ),
    clip_grad=dict(max_norm=35, norm_type=2),
)
# As theirs: the adapter's BatchNorms share their statistics among GPUs.
sync_bn = 'torch'
