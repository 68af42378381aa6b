# Table 3, V2M-S*: 62 M parameters, 48.2 mIoU, 49.0 multi-scale.
# No ImageNet weights are published; without any, the backbone starts from scratch. To start from a
# classification checkpoint, add
#   --cfg-options model.backbone.init_cfg.type=Pretrained \
#     model.backbone.init_cfg.prefix=backbone. model.backbone.init_cfg.checkpoint=PATH
_base_ = [
    '_base_/models/upernet_v2m-s-star.py',
    '_base_/datasets/ade20k_512x512.py',
    '_base_/schedules/upernet_160k_adamw.py',
    '_base_/segmentation_runtime.py',
]
