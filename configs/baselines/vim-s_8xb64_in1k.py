# Table 1, Vim-S: 26 M parameters, 5.1 G FLOPs, 80.3% top-1.
# Its authors' recipe (pt-vim-s.sh): weight decay 0.05, drop path 0.05, learning rate 1e-3 at a
# batch of 512. They publish 80.5%.
_base_ = './vim-t_8xb128_in1k.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.05), head=dict(in_channels=384))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=512)
