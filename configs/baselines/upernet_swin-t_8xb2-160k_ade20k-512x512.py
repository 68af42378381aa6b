# Table 3, Swin-T: 60 M parameters, 44.4 mIoU, 45.8 multi-scale.
# mmseg's config for Swin-T, put together from V2M's bases: mmengine finds no _base_ in mmseg.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/upernet_160k_adamw.py',
    '../_base_/segmentation_runtime.py',
]

checkpoint = 'https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/swin_tiny_patch4_window7_224_20220317-1cdeb081.pth'  # noqa: E501
model = dict(
    backbone=dict(
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    )
)
optim_wrapper = dict(type='OptimWrapper')  # fp32, as mmseg trains it
