# mmpretrain's usual runtime, plus the import that registers this package.
default_scope = 'mmpretrain'
custom_imports = dict(
    imports=['mmv2m.models', 'mmv2m.datasets', 'mmv2m.engine'], allow_failed_imports=False
)

default_hooks = dict(
    # mmengine's hook waits for the GPU in every step to read the loss.
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    # Stops at a loss that is NaN, and names its images; enable=False switches it off.
    invalid_loss=dict(type='StopAtInvalidLossHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)

log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=None, deterministic=False)
