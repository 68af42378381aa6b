# mmseg's usual runtime for training by iterations, plus the import that registers this package.
default_scope = 'mmseg'
custom_imports = dict(imports=['mmv2m.models'], allow_failed_imports=False)

default_hooks = dict(
    # mmengine's hook waits for the GPU in every step to read the loss.
    runtime_info=dict(type='mmv2m.DeferredRuntimeInfoHook'),
    # Stops at a loss that is NaN, and names its images; enable=False switches it off.
    invalid_loss=dict(type='mmv2m.StopAtInvalidLossHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=16000),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
log_processor = dict(by_epoch=False)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
tta_model = dict(type='SegTTAModel')

log_level = 'INFO'
load_from = None
resume = False
