# VMamba's four one-dimensional scans (rows and columns, both ways) in each block of a plain model,
# which is LocalVim without windows: 17 blocks, 6.5 M parameters.
_base_ = '../_base_/cifar10_study.py'

model = dict(
    backbone=dict(
        type='LocalVim',
        arch=dict(
            embed_dims=192, depths=(4, 4, 4, 5), scans=(('h', 'h_flip', 'v', 'v_flip'),) * 17
        ),
        img_size=32,
        patch_size=4,
    )
)
