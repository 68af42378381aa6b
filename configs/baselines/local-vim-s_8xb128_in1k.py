# Table 1, LocalVim-S: 28 M parameters, 4.8 G FLOPs, 81.2% top-1.
# The authors publish no settings of its own for training it; these are LocalVim-T's.
_base_ = './local-vim-t_8xb128_in1k.py'

model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
