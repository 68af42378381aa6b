# Table 2, Swin-S, 1x: 69 M parameters, 44.8 box AP, 40.9 mask AP.
# mmdet has Swin-T at 1x and Swin-S at 3x: the schedule of the one, the weights of the other.
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'

checkpoint = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_small_patch4_window7_224.pth'  # noqa: E501
model = dict(backbone=dict(depths=[2, 2, 18, 2], init_cfg=dict(checkpoint=checkpoint)))
optim_wrapper = dict(constructor='mmv2m.GroupedOptimWrapperConstructor')
