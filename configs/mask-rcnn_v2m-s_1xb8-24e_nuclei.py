# V2M-S* with Mask R-CNN, the model of Table 2, on nuclei in microscope images (2018 Data Science
# Bowl, CC0) from scratch: other data, size and schedule. docs/detection_segmentation.md says where
# to get the images and how they have to lie in data/nuclei.
_base_ = './mask-rcnn_v2m-s_3x_coco.py'

data_root = 'data/nuclei/'
data_hint = (
    'annotations/instances_{train,val}.json, train/ and val/ below data_root '
    '(docs/detection_segmentation.md says where to get the nuclei and makes these files of them)'
)
metainfo = dict(classes=('nucleus',), palette=[(220, 20, 60)])

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    # One image holds up to 375 nuclei. (COCO's mAP looks at 100 of them, mAP_50 at all.)
    test_cfg=dict(rcnn=dict(max_per_img=400)),
)

# Images are from 256 x 256 to 1040 x 1388, and most nuclei 20 pixels wide; a short side of 512
# brings these into the range of the anchors. Crops of 384 have half of the nuclei of crops of 512:
# the host's work grows with these and is what a GPU waits for. Nothing is upside down.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=(1024, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(384, 384), recompute_bbox=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1)),
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1024, 512), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# 24 epochs are 1,600 iterations here.
optim_wrapper = dict(optimizer=dict(lr=2e-4), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=200),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=24, milestones=[18, 22], gamma=0.1),
]
train_cfg = dict(max_epochs=24, val_interval=12)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=6, max_keep_ckpts=1, save_best='coco/segm_mAP', rule='greater'),
)
auto_scale_lr = dict(base_batch_size=8)
