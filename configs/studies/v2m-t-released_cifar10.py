# The released code's branches; v2m-t-mean_cifar10.py differs in them alone.
_base_ = './v2m-t-mean_cifar10.py'

model = dict(backbone=dict(geometry='released'))
