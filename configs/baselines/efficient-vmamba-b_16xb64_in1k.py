# Table 1, EffVMamba-B: 33 M parameters, 4.0 G FLOPs, 81.8% top-1.
# As T, at half the batch, by the authors' training log.
_base_ = './efficient-vmamba-t_16xb128_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=1024)
