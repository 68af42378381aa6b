"""The block that all backbones are made of: a token mixer and an MLP on a residual stream."""

from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule
from torch import Tensor, nn

from .door import may_stand_for
from .drop_path import DropLater
from .ffn import FFN, FFN_WITHOUT_SUM
from .params import widen
from .stream import Stream, normalise

__all__ = ['MixerBlock']


class MixerBlock(BaseModule):
    """``x + drop_path(mixer(norm(x)))``, then ``x + drop_path(mlp(norm(x)))`` if there is an MLP.

    The residual stream is kept in at least float32. :meth:`advance` computes the same for a stage
    of several blocks, but leaves the last sum to the next block; see :class:`Stream`.

    Args:
        embed_dims: Width of the map, D.
        mixer: The token mixer, which takes and returns (B, H, W, D).
        drop_path: Rate of stochastic depth of both branches.
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

    def forward(self, x: Tensor, with_branch: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Turn a tensor (B, H, W, D) into one of the same shape, in at least float32.

        Args:
            x: The map.
            with_branch: Whether to return also what the mixer adds to it, before stochastic depth.
        """
        branch = self.mixer(normalise(self.norm, x, self.mixer))
        x = widen(x) + self.drop_path(branch)
        if self.ffn is not None:
            x = x + self.ffn(normalise(self.ffn_norm, x, self.mixer))
        return (x, branch) if with_branch else x

    def advance(self, stream: Stream) -> Stream:
        """Compute the same as :meth:`forward`, but leave each sum to the norm that follows it."""
        ffn = self.ffn
        drop_later = DropLater(self, branches=1 if ffn is None else 2)
        normed, total = stream.normed(self, self.norm, self.mixer, backend=self.backend)
        stream = Stream(total, *drop_later(self.drop_path, self.mixer(normed)))
        if ffn is None:
            return stream
        normed, total = stream.normed(self, self.ffn_norm, self.mixer, backend=self.backend)
        if not may_stand_for(self, normed, ((ffn, FFN_WITHOUT_SUM),)):
            return Stream(total, ffn(normed))
        return Stream(total, *drop_later(ffn.dropout_layer, ffn.gamma2(ffn.layers(normed))))
