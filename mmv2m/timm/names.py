"""The backbones' names in timm, one for each size in their zoos."""

from typing import Any, NamedTuple

from mmv2m.models import V2M, EfficientVMamba, LocalVim, PlainMamba, Vim, VMamba
from mmv2m.models.backbones.staged import StagedBackbone

__all__ = ['BACKBONES', 'Variant']

PREFIXES: dict[str, type[StagedBackbone]] = dict(
    v2m=V2M,
    vim=Vim,
    local_vim=LocalVim,
    vmamba=VMamba,
    plain_mamba=PlainMamba,
    efficient_vmamba=EfficientVMamba,
)
"""The backbones by the beginning of their names."""


class Variant(NamedTuple):
    """One size of a backbone.

    Attributes:
        cls: The backbone's class.
        arch: Its ``arch``.
    """

    cls: Any
    arch: str


def _variants() -> dict[str, Variant]:
    """Map the longest name of each size to the size."""
    found = {}
    for prefix, cls in PREFIXES.items():
        names: dict[int, str] = {}
        for arch, sizes in cls.ARCH_ZOO.items():
            names[id(sizes)] = max(names.get(id(sizes), ''), arch, key=len)
        for arch in names.values():
            found[f'{prefix}_{arch.lower().replace("-", "_")}'] = Variant(cls, arch)
    return found


BACKBONES: dict[str, Variant] = _variants()
"""The sizes by their names in timm, such as ``'v2m_pyramid_small'``."""
