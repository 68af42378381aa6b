"""The 2D state space model, started from several corners: V2M's mixer."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn

from mmv2m.ops import Halves, ScanNorm, gated_linear, mixer_2d, ssm_2d

from .class_token import insert_zeros, strip_cross
from .corner_ssm import build_corner_ssm
from .out_projection import OutProjection
from .routes import CORNERS, MERGES, plan_groups, plan_local_groups
from .runs_as import runs_as
from .same_dtype_norm import SameDtypeLayerNorm
from .scan_attention import ScanAttention

__all__ = ['SS2D']


class SS2D(BaseModule):
    """2D selective SSM over a channels-last map (V2M, Eq. 7-15).

    ``out_proj(gate(sum over corners of columns(gate(rows(x)))))`` with ``x, z = in_proj(map)`` and
    ``gate(y) = y * SiLU(z)``. The two projections act on single tokens and run once, and so does
    the second gate, behind the sum. Takes and gives maps of (B, H, W, D), in any floating dtype;
    states are float32.

    The corners are one operator, which takes their parameters: hooks on the modules in ``ssm`` do
    not run. It includes both projections and the norm, unless another module has taken the place of
    one, as adapters do, or there are hooks on one.

    Args:
        embed_dims: Width of the map, D.
        expand: Inner width E over D.
        states: States a channel, N.
        conv_size: Taps of the convolutions.
        dt_rank: Rank of the time step's projection, R; ``'auto'`` for ceil(D / 16).
        corners: Where the SSM starts: some of ``'UL', 'LR', 'UR', 'LL'``.
        geometry: ``'paper'``, or ``'released'`` for exactly what the authors' released code
            computes: other branches, half their sum, transposed; square maps only.
        share: Corners that share parameters: ``'all'``, ``'opposite'`` ones only, or ``'none'``.
        orders: ``'one'``, or ``'both'``: from each corner also with the two scans in the other
            order (Eq. 8), which has parameters of its own.
        merge: Whether ``out_proj`` takes the ``'sum'`` over corners and orders (Eq. 15) or their
            ``'mean'``.
        scans: Instead of ``corners``, names of LocalVim's scans, see :func:`plan_local_groups`:
            2D SSMs over the whole map and inside windows. A scan and its flip share parameters, and
            a :class:`ScanAttention` weighs each such pair.
        class_token: Where the map has class tokens, ``'middle' | 'edge' | 'mean'`` (none). Windows
            are those of the patches; class tokens take part in the scans over the whole map only.
        gated: Whether there are ``z`` and gates. If not, a LayerNorm on the sum takes the place of
            the last one (as in VMamba).
        out_proj_scale: Factor on the initial weights of ``out_proj``; 1 / sqrt(depth) in V2M.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`. ``out_proj`` and the time steps keep their
            own initialisation whatever is configured here or above.

    Raises:
        ValueError: If ``corners``, ``geometry``, ``share``, ``orders``, ``merge`` or ``scans`` is
            impossible, alone or with the others.
    """

    def __init__(
        self,
        embed_dims: int,
        expand: int = 2,
        states: int = 16,
        conv_size: int = 4,
        dt_rank: int | str = 'auto',
        corners: Sequence[str] = tuple(CORNERS),
        geometry: str = 'paper',
        share: str = 'all',
        orders: str = 'one',
        merge: str = 'sum',
        scans: Sequence[str] | None = None,
        class_token: str = 'mean',
        gated: bool = True,
        out_proj_scale: float = 1.0,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.geometry = geometry
        self.class_token = class_token
        self.gated = gated
        self.backend = backend
        inner = expand * embed_dims
        rank = math.ceil(embed_dims / 16) if dt_rank == 'auto' else int(dt_rank)
        if merge not in MERGES or (merge == 'mean' and geometry != 'paper'):
            raise ValueError(
                f'merge must be one of {", ".join(MERGES)}, and sum in the released geometry, but '
                f'got {merge!r}'
            )
        if scans:
            groups = plan_local_groups(scans)
        else:
            groups = plan_groups(corners, geometry, share, orders)
        routes = sum(len(group.routes) for group in groups.values())
        self.divisor = routes if merge == 'mean' else 1
        self.in_proj = nn.Linear(embed_dims, 2 * inner if gated else inner, bias=False)
        self.ssm = ModuleDict(
            {
                name: build_corner_ssm(inner, states, rank, conv_size, group, backend)
                for name, group in groups.items()
            }
        )
        self.attention = ScanAttention(inner) if scans else nn.Identity()
        self.out_norm: Any = nn.Identity() if gated else SameDtypeLayerNorm(inner)
        self.out_proj = OutProjection(inner, embed_dims, out_proj_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a map.

        Args:
            x: (B, H, W, D).

        Returns:
            (B, H, W, D).

        Raises:
            ValueError: If the geometry is the released one and the map is not square.
        """
        if self.geometry == 'released' and x.shape[1] != x.shape[2]:
            raise ValueError(
                "geometry='released' transposes its output and needs a square map, but got "
                f"{x.shape[1]} x {x.shape[2]} tokens; use geometry='paper'"
            )
        if self._is_one_operator():
            return self._mix(x)
        x = self.in_proj(x)
        if not self.gated:
            return self.out_proj(self.out_norm(self._scan(x, None)))
        x, z = x.chunk(2, dim=-1)
        if self.geometry == 'released':
            return self.out_proj(self._released_sum(x, z))
        y = self._scan(x, z)
        if runs_as(self.out_proj, OutProjection):
            return gated_linear(y, z, self.out_proj.weight, self.backend)
        return self.out_proj(y * F.silu(z))

    def _is_one_operator(self) -> bool:
        """Whether everything is what :func:`mmv2m.ops.mixer_2d` computes.

        Asked in every pass: adapters such as LoRA's replace linear layers, pruning hooks into them.
        """
        return (
            self.geometry == 'paper'
            and not self.weighs_scans
            and runs_as(self.in_proj, nn.Linear)
            and runs_as(self.out_proj, OutProjection)
            and (self.gated or runs_as(self.out_norm, SameDtypeLayerNorm))
        )

    def _mix(self, x: Tensor) -> Tensor:
        weight, norm = self.out_proj.weight, None
        if not self.gated:  # a norm of the mean is one of the sum, but for what it adds
            scale = self.divisor**2
            norm = ScanNorm(self.out_norm.weight, self.out_norm.bias, self.out_norm.eps * scale)
        elif self.divisor > 1:
            weight = weight / self.divisor
        how = dict(backend=self.backend, log_A=True)
        return mixer_2d(x, self.in_proj.weight, weight, self._groups(), norm, **how)

    @property
    def weighs_scans(self) -> bool:
        """Whether each pair of scans is weighed before the sum; only then are there windows."""
        return isinstance(self.attention, ScanAttention)

    def _groups(self) -> list[Halves]:
        return [ssm.halves() for ssm in self.ssm.values()]

    def _scan(self, x: Tensor, z: Tensor | None) -> Tensor:
        """The sum over all groups, or their routes' mean, (B, H, W, E)."""
        if self.weighs_scans:
            y = self._weigh_groups(x, z)
        else:
            y = ssm_2d(x, z, self._groups(), 'sum', self.backend, log_A=True)
        return y / self.divisor if self.divisor > 1 else y

    def _weigh_groups(self, x: Tensor, z: Tensor | None) -> Tensor:
        inside = [name for name, ssm in self.ssm.items() if ssm.window]
        if self.class_token == 'mean' or not inside:
            return self._sum(x, z, self.ssm)
        over_all = [name for name in self.ssm if name not in inside]
        at_edge = self.class_token == 'edge'
        gate = None if z is None else strip_cross(z, at_edge)
        patches = insert_zeros(self._sum(strip_cross(x, at_edge), gate, inside), at_edge)
        return patches + self._sum(x, z, over_all) if over_all else patches

    def _sum(self, x: Tensor, z: Tensor | None, names: Iterable[str]) -> Tensor:
        outputs = [self.attention(self.ssm[name](x, z)) for name in names]
        return sum(outputs[1:], outputs[0])

    def _released_sum(self, x: Tensor, z: Tensor) -> Tensor:
        """Gate each branch, flip it back as the released code does, and sum."""
        ssm = self.ssm['all']
        gated = (ssm(x, z, reduction='none') * F.silu(z)).unbind()
        flipped = [one.flip(axes) for one, axes in zip(gated, ssm.flip, strict=True)]
        return sum(flipped[1:], flipped[0]).transpose(1, 2) / 2
