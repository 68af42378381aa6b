# The exact recurrence (Eq. 6 to 8), class tokens in the middle. A block has 9% more parameters than
# V2M-T's, so that there are 22 instead of 24: 6.5 M parameters.
_base_ = './v2m-t_cifar10.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=192, depths=(6, 5, 5, 6)), recurrence='coupled'
    )
)
