# Table 3, Swin-S: 81 M parameters, 47.6 mIoU, 49.5 multi-scale.
_base_ = './upernet_swin-t_8xb2-160k_ade20k-512x512.py'

checkpoint = 'https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/swin_small_patch4_window7_224_20220317-7ba6d6dd.pth'  # noqa: E501
model = dict(backbone=dict(depths=[2, 2, 18, 2], init_cfg=dict(checkpoint=checkpoint)))
