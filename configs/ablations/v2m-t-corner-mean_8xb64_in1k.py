# The mean over the corners in the place of Eq. 15's sum.
_base_ = '../v2m-t_8xb64_in1k.py'

model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=192, depths=(6, 6, 6, 6), merge='mean'))
)
