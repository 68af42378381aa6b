# Mask R-CNN with FPN on COCO, 3x with multi-scale training; otherwise as mask-rcnn_1x_coco.py.
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'

custom_imports = dict(imports=['mmv2m.models'], allow_failed_imports=False)

default_hooks = dict(
    # mmengine's hook waits for the GPU in every step to read the losses.
    runtime_info=dict(type='mmv2m.DeferredRuntimeInfoHook'),
    # Stops at a loss that is NaN, and names its images; enable=False switches it off.
    invalid_loss=dict(type='mmv2m.StopAtInvalidLossHook'),
)

optim_wrapper = dict(
    constructor='mmv2m.GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'.A_log': dict(decay_mult=0.0)}),
)
