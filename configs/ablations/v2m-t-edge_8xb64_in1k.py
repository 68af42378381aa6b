# Figure 4 (b): class tokens at the edge, read at their corner. (c), in the middle and read at their
# crossing, is v2m-t_8xb64_in1k.py.
_base_ = '../v2m-t_8xb64_in1k.py'

model = dict(backbone=dict(class_token='edge'))
