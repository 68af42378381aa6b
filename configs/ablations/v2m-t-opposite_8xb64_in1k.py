# Two parameter sets, as in the pyramids: one for UL and LR, one for UR and LL.
_base_ = '../v2m-t_8xb64_in1k.py'

model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=192, depths=(6, 6, 6, 6), share='opposite'))
)
