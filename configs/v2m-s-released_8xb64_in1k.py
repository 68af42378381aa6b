# V2M-S exactly as the authors' released code computes it, for weights trained with that code: see
# tools/model_converters/released_to_mmv2m.py. Its script uses learning rate 1e-3.
_base_ = './v2m-s_8xb64_in1k.py'

model = dict(backbone=dict(geometry='released', class_token='mean'))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
