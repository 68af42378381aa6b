# Mask R-CNN with FPN on COCO, 1x: VMamba's recipe, which is mmdet's for Swin, and V2M's additions.
# A config names the backbone: four outputs of 96, 192, 384 and 768 channels.
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'

custom_imports = dict(imports=['mmv2m.models'], allow_failed_imports=False)

default_hooks = dict(
    # mmengine's hook waits for the GPU in every step to read the losses.
    runtime_info=dict(type='mmv2m.DeferredRuntimeInfoHook'),
    # Stops at a loss that is NaN, and names its images; enable=False switches it off.
    invalid_loss=dict(type='mmv2m.StopAtInvalidLossHook'),
)

# Mixed precision in fp16 with a dynamic loss scale: mmcv's RoIAlign has no bf16 kernel. The scans
# keep their state in fp32. Biases, norms and D are one-dimensional, hence flat_decay_mult.
optim_wrapper = dict(
    constructor='mmv2m.GroupedOptimWrapperConstructor',
    type='AmpOptimWrapper',
    paramwise_cfg=dict(flat_decay_mult=0.0, custom_keys={'.A_log': dict(decay_mult=0.0)}),
)
