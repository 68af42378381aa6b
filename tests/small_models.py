"""Every kind of V2M, small: what the tests of backbones share."""

import torch

from mmv2m.models import V2M

PLAIN = dict(embed_dims=16, depths=(1, 1, 1, 1), state_dims=2)
ARCHS = dict(
    plain=PLAIN,
    local=dict(
        PLAIN,
        scans=(('h', 'w2'), ('h_flip', 'v', 'w3_flip'), ('w2', 'w2_flip', 'v_flip'), ('h', 'v')),
    ),
    pyramid=dict(
        embed_dims=8,
        depths=(1, 1, 1, 1),
        layout='pyramid',
        expand=1,
        state_dims=1,
        gated=False,
        share='opposite',
        ffn_ratio=2,
    ),
)
WIDTHS = dict(plain=(16,) * 4, local=(16,) * 4, pyramid=(8, 16, 32, 64))
STRIDES = dict(plain=(8,) * 4, local=(8,) * 4, pyramid=(4, 8, 16, 32))
CLASS_TOKENS = dict(
    plain=('middle', 'edge', 'mean'), local=('middle', 'edge', 'mean'), pyramid=('mean',)
)


def make(kind='plain', **settings):
    torch.manual_seed(0)
    size = {} if kind == 'pyramid' else dict(patch_size=8)
    return V2M(**{**dict(arch=ARCHS[kind], img_size=32), **size, **settings})
