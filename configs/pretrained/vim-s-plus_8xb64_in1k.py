# Vim-S+: 81.6% top-1, by its authors' weights: Vim-S with patches that overlap, for testing. Its
# authors' recipe starts from Vim-S and trains for 30 epochs; this one is that of Vim-S.
_base_ = '../baselines/vim-s_8xb64_in1k.py'

model = dict(backbone=dict(stride=8))
