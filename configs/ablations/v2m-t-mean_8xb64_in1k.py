# Figure 4 (a): no class tokens, the patches' mean. The paper prints no figures for Figure 4.
_base_ = '../v2m-t_8xb64_in1k.py'

model = dict(backbone=dict(class_token='mean'))
