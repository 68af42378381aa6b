"""Every kind of backbone, as small as it can be: for tests that try something on each module."""

import contextlib

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from mmv2m.models import V2M, EfficientVMamba, LocalVim, PlainMamba, Vim, VMamba

BLOCKS = dict(embed_dims=8, depths=(2, 1, 1, 1), state_dims=2)
STAGES = dict(BLOCKS, depths=(1, 1, 1, 1))
PLAIN = dict(img_size=16, patch_size=8, drop_path_rate=0.0, scan_backend='reference')
PYRAMID = dict(layout='pyramid', expand=1, gated=False, share='opposite', ffn_ratio=2)
WINDOWS = (('h', 'w2', 'w2_flip'), ('v_flip',), ('h',), ('h',))

KINDS = dict(
    plain=(V2M, dict(PLAIN, arch=BLOCKS, out_indices=0)),
    both_orders=(V2M, dict(PLAIN, arch=dict(STAGES, orders='both', merge='mean'), out_indices=0)),
    pyramid=(V2M, dict(arch=dict(STAGES, **PYRAMID), out_indices=1)),
    local=(V2M, dict(PLAIN, arch=dict(STAGES, scans=WINDOWS), out_indices=1)),
    coupled=(V2M, dict(PLAIN, arch=BLOCKS, recurrence='coupled', out_indices=0)),
    both_sides=(V2M, dict(PLAIN, arch=dict(STAGES, projects='both'), out_indices=0)),
    released=(
        V2M,
        dict(PLAIN, arch=STAGES, geometry='released', class_token='mean', out_indices=0),
    ),
    vim=(Vim, dict(PLAIN, arch=STAGES, out_indices=1)),
    local_vim=(LocalVim, dict(PLAIN, arch=dict(BLOCKS, scans=(*WINDOWS, ('h',))), out_indices=0)),
    vmamba=(VMamba, dict(arch=dict(embed_dims=8, depths=(1, 1, 1, 1)), out_indices=1)),
    plain_mamba=(
        PlainMamba,
        dict(arch=dict(BLOCKS, conv_size=3, conv_behind_first=True), img_size=16, out_indices=0),
    ),
    efficient=(EfficientVMamba, dict(arch=dict(STAGES, depths=(1, 0, 1, 1)), out_indices=2)),
)
"""By name: the class and its settings."""

IMAGE_SIDES = dict(efficient=32)


def make(name, dtype=torch.float64):
    """A backbone in evaluation mode, with parameters that all differ from each other."""
    cls, settings = KINDS[name]
    torch.manual_seed(0)
    model = cls(**settings).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def make_image(name, dtype=torch.float64):
    side = IMAGE_SIDES.get(name, 16)
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)).to(dtype)


def called_modules(model):
    """Name and module of all modules that PyTorch calls; lists and dicts of modules are not."""
    containers = (nn.ModuleList, nn.ModuleDict)
    return [(n, m) for n, m in model.named_modules() if n and not isinstance(m, containers)]


@contextlib.contextmanager
def module_by_module():
    """Run every layer's plain forward: a hook on all modules, which does nothing, asks for it."""
    handle = register_module_forward_hook(lambda *args: None)
    try:
        yield
    finally:
        handle.remove()
