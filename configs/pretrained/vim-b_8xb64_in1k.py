# Vim-B: 81.9% top-1, by its authors' weights, for testing. They publish no recipe for it; this one
# is that of Vim-S.
_base_ = '../baselines/vim-s_8xb64_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
