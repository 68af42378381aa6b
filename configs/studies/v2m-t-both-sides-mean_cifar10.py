# B and C of both scans depend on the token, as in the other models of one size, instead of B of the
# first and C of the second: 6.8 M parameters. v2m-t-mean_cifar10.py differs in that alone.
_base_ = './v2m-t-mean_cifar10.py'

model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dims=192, depths=(6, 6, 6, 6), projects='both'))
)
