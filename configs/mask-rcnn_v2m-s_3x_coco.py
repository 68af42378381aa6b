# Table 2, V2M-S*, 3x: 50 M parameters, 49.0 box AP, 43.8 mask AP.
# No ImageNet weights are published; without any, the backbone starts from scratch. To start from a
# classification checkpoint, add
#   --cfg-options model.backbone.init_cfg.type=Pretrained \
#     model.backbone.init_cfg.prefix=backbone. model.backbone.init_cfg.checkpoint=PATH
_base_ = '_base_/mask-rcnn_3x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='V2M',
        arch='pyramid-small',
        class_token='mean',
        out_type='featmap',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
    )
)
