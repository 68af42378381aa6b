# Vim-T+: 78.3% top-1, by its authors' weights: Vim-T with patches that overlap, for testing. Its
# authors' recipe starts from Vim-T and trains for 30 epochs; this one is that of Vim-T.
_base_ = '../baselines/vim-t_8xb128_in1k.py'

model = dict(backbone=dict(stride=8))
