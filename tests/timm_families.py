"""A name that timm knows of each family, with sizes that are small."""

BLOCKS = dict(embed_dims=8, depths=(1, 1, 1, 1), state_dims=2)
FAMILIES = dict(
    v2m_tiny=dict(BLOCKS),
    v2m_pyramid_small=dict(BLOCKS, layout='pyramid', share='opposite', gated=False),
    vim_tiny=dict(BLOCKS),
    local_vim_tiny=dict(BLOCKS, scans=(('h', 'v', 'w2', 'w2_flip'),) * 4),
    vmamba_tiny=dict(BLOCKS, state_dims=1),
    plain_mamba_l1=dict(BLOCKS, conv_size=3),
    efficient_vmamba_tiny=dict(BLOCKS),
)
