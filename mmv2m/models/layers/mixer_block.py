"""The block that all backbones are made of: a token mixer and an MLP on a residual stream."""

from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule
from torch import nn

from .ffn import FFN
from .stream import Stream

__all__ = ['MixerBlock']


class MixerBlock(BaseModule):
    """``x + drop_path(mixer(norm(x)))``, then ``x + drop_path(mlp(norm(x)))`` if there is an MLP.

    The sums wait in the :class:`Stream`, which is kept in at least float32.

    Args:
        embed_dims: Width of the map, D.
        mixer: Takes and returns (B, H, W, D).
        drop_path: Rate of stochastic depth, of both branches.
        norm_cfg: Norms in front of the mixer and of the MLP. Defaults to
            ``dict(type='SameDtypeLN')``.
        ffn_ratio: Hidden width of the MLP over D; 0 for none.
        backend: Backend of the sums with norms, and of the MLP.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        mixer: nn.Module,
        drop_path: float = 0.0,
        norm_cfg: dict | None = None,
        ffn_ratio: float = 0.0,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        norm_cfg = norm_cfg or dict(type='SameDtypeLN')
        self.norm = build_norm_layer(norm_cfg, embed_dims)[1]
        self.mixer = mixer
        self.backend = backend
        self.drop_path = DropPath(drop_path)
        self.ffn: FFN | None = None
        if ffn_ratio:
            self.ffn_norm = build_norm_layer(norm_cfg, embed_dims)[1]
            self.ffn = FFN(
                embed_dims,
                int(embed_dims * ffn_ratio),
                act_cfg=dict(type='GELU'),
                dropout_layer=dict(type='DropPath', drop_prob=drop_path),
                add_identity=False,
                backend=backend,
            )

    def forward(self, stream: Stream) -> Stream:
        """A stream of (B, H, W, D) maps, to the same."""
        normed, total = stream.normed(self.norm, self.backend)
        stream = Stream(total, self.drop_path(self.mixer(normed)))
        if self.ffn is None:
            return stream
        normed, total = stream.normed(self.ffn_norm, self.backend)
        return Stream(total, self.ffn(normed))
