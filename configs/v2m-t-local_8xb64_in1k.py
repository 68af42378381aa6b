# Table 1, V2M-T + local window: 8 M parameters, 1.8 G FLOPs, 76.4% top-1.
# The paper's schedule; stochastic depth 0.1, which it does not name, is LocalVim's. LocalVim trains
# with more: batch 1024, learning rate 1e-3, weight decay 0.04, 20 epochs of warm-up, RandAugment
# (rand-m9-mstd0.5), colour jitter 0.3, CutMix (alpha 1.0, Mixup 0.2).
_base_ = './v2m-t_8xb64_in1k.py'

model = dict(backbone=dict(arch='local-tiny', drop_path_rate=0.1))
