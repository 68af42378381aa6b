# V2M-T exactly as the authors' released code computes it, for weights trained with that code: see
# tools/model_converters/released_to_mmv2m.py. Its branches differ from the paper's four corners,
# it has no class tokens, and its script uses weight decay 0.1.
_base_ = './v2m-t_8xb64_in1k.py'

model = dict(backbone=dict(geometry='released', class_token='mean'))
optim_wrapper = dict(optimizer=dict(weight_decay=0.1))
