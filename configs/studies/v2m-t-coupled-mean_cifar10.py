# The exact recurrence, mean pooling. The simplified one is v2m-t-mean_cifar10.py.
_base_ = './v2m-t-coupled_cifar10.py'

model = dict(backbone=dict(class_token='mean'))
