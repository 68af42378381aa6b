"""V2M's block: a normalised 2D SSM, and optionally an MLP, on a residual stream."""

from .mixer_block import MixerBlock
from .ss2d import SS2D

__all__ = ['V2MBlock']


class V2MBlock(MixerBlock):
    """A :class:`MixerBlock` with a :class:`SS2D`.

    Args:
        embed_dims: Width of the map, D.
        drop_path: Rate of stochastic depth.
        norm_cfg: Norm in front of the mixer and of the MLP. Defaults to ``dict(type='RMSNorm')``.
        mixer_cfg: Further arguments of :class:`SS2D`.
        ffn_ratio: Inner width of the MLP over D; 0 for no MLP, as in the plain V2M.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        drop_path: float = 0.0,
        norm_cfg: dict | None = None,
        mixer_cfg: dict | None = None,
        ffn_ratio: float = 0.0,
        init_cfg: dict | list | None = None,
    ) -> None:
        mixer = SS2D(embed_dims, **(mixer_cfg or {}))
        norm_cfg = norm_cfg or dict(type='RMSNorm')
        super().__init__(embed_dims, mixer, drop_path, norm_cfg, ffn_ratio, mixer.backend, init_cfg)
