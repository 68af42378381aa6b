# The released code's branches on the paper's schedule: to be held against v2m-t-mean_8xb64_in1k.py,
# which differs in them alone.
_base_ = './v2m-t-mean_8xb64_in1k.py'

model = dict(backbone=dict(geometry='released'))
