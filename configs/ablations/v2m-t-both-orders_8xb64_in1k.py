# From each corner Eq. 8 besides Eq. 7: along the second axis first, with parameters of its own.
_base_ = '../v2m-t_8xb64_in1k.py'

model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=192, depths=(6, 6, 6, 6), orders='both'))
)
