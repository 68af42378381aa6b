"""The 2D state space model, started from several corners: V2M's mixer."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn

from mmv2m.ops import BACKENDS, Group, ScanNorm, ss2d

from .checks import check_choices, check_counts
from .class_token import CLASS_TOKENS, insert_zeros, strip_cross
from .corner_ssm import CORNER_SSM, build_corner_ssm
from .corners import (
    CORNERS,
    MERGES,
    check_coupled,
    check_local,
    plan_groups,
    plan_local_groups,
)
from .coupled_ssm import CoupledSSM
from .door import LINEAR, Known, may_stand_for, unchanged
from .out_projection import OUT_PROJECTION, OutProjection, project_gated
from .same_dtype_norm import SAME_DTYPE_NORM, SameDtypeLayerNorm
from .scan_attention import ScanAttention

__all__ = ['SS2D']


class SS2D(BaseModule):
    """2D selective SSM over a channels-last map (V2M, Eq. 7-15).

    It computes ``out_proj(gate(sum over corners of columns(gate(rows(x)))))`` with ``x, z =
    in_proj(map)`` and ``gate(y) = y * SiLU(z)``. The two projections act on single tokens and run
    once. The second gate follows the sum, so it runs once too. Maps are (B, H, W, D) in any
    floating dtype, and states are at least float32.

    Where :func:`.door.may_stand_for` allows it, one operator stands for all modules. It supports
    neither windows nor attention. With them, an operator stands for each 2D SSM.

    Args:
        embed_dims: Width of the map, D.
        expand: Inner width E over D.
        states: States per channel, N.
        conv_size: Taps of the convolutions.
        dt_rank: Rank of the time step's projection, R; ``'auto'`` for ceil(D / 16).
        corners: Corners from which the SSM starts: some of ``'UL', 'LR', 'UR', 'LL'``.
        geometry: ``'paper'``, or ``'released'`` for exactly what the authors' released code
            computes. That code has other branches, and transposes half of their sum. It takes only
            square maps.
        share: Corners that share parameters: ``'all'``, ``'opposite'`` ones only, or ``'none'``.
        orders: With ``'both'`` instead of ``'one'``, each corner also has the two scans in the
            other order (Eq. 8), with parameters of their own.
        merge: Whether ``out_proj`` takes the ``'sum'`` over corners and orders (Eq. 15) or their
            ``'mean'``.
        scans: Names of LocalVim's scans instead of ``corners``; see :func:`plan_local_groups`. They
            stand for 2D SSMs over the whole map and inside windows. A scan and its flip share
            parameters, and a :class:`ScanAttention` weighs each such pair. The names imply
            ``corners``, ``geometry``, ``share`` and ``orders``, which have to be left out.
        recurrence: ``'simplified'`` for the paper's two scans one behind the other (Eq. 9-12), or
            ``'coupled'`` for the recurrence of Eq. 6-8 that the paper simplifies; see
            :class:`CoupledSSM`. The coupled recurrence goes with whole maps and the paper's
            geometry. It has both orders in one walk, and its B and C always depend on the token.
        projects: Sides of the simplified recurrence's scans that depend on the token. With
            ``'one'``, they are B of the first scan and C of the second (Eq. 9 to 12). With
            ``'both'``, they are B and C of both scans.
        class_token: Place of the map's class tokens: ``'middle'``, ``'edge'``, or ``'mean'`` if
            there are none. Only scans over the whole map read class tokens; windows hold patches.
        gated: Whether there are ``z`` and gates. If not, a LayerNorm on the sum replaces the last
            gate, as in VMamba.
        out_proj_scale: Factor on the initial weights of ``out_proj``; 1 / sqrt(depth) in V2M.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`. ``out_proj`` and the time steps keep their
            own initialisation whatever is configured here or above.

    Raises:
        ValueError: If a setting is impossible, alone or with the others. The message says what is
            possible.
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
        recurrence: str = 'simplified',
        projects: str = 'one',
        class_token: str = 'mean',
        gated: bool = True,
        out_proj_scale: float = 1.0,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        sizes = dict(embed_dims=embed_dims, expand=expand, states=states, conv_size=conv_size)
        check_counts(**sizes, **({} if dt_rank == 'auto' else dict(dt_rank=dt_rank)))
        check_choices(
            class_token=(class_token, CLASS_TOKENS),
            gated=(gated, (True, False)),
            backend=(backend, ('auto', *BACKENDS)),
        )
        self.embed_dims = embed_dims
        self.geometry = geometry
        self.class_token = class_token
        self.gated = gated
        self.recurrence = recurrence
        self.is_variant = recurrence != 'simplified' or projects != 'one'
        self.backend = backend
        inner = expand * embed_dims
        rank = math.ceil(embed_dims / 16) if dt_rank == 'auto' else int(dt_rank)
        if merge not in MERGES or (merge == 'mean' and geometry != 'paper'):
            raise ValueError(
                f'merge must be one of {", ".join(MERGES)}, and sum in the released geometry, but '
                f'got {merge!r}'
            )
        check_coupled(recurrence, geometry, orders, projects, scans is not None)
        if scans is not None:
            check_local(corners, geometry, share, orders)
            groups = plan_local_groups(scans)
        else:
            groups = plan_groups(corners, geometry, share, orders)
        all_corners = [corner for group in groups.values() for corner in group.corners]
        self.divisor = len(all_corners) if merge == 'mean' else 1
        self.in_windows = frozenset(name for name, group in groups.items() if group.window)
        self.flips = [corner.flip for corner in all_corners]
        self.in_proj = nn.Linear(embed_dims, 2 * inner if gated else inner, bias=False)
        self.ssm = ModuleDict(
            {
                name: CoupledSSM(inner, states, rank, conv_size, group, backend)
                if recurrence == 'coupled'
                else build_corner_ssm(inner, states, rank, conv_size, group, backend, projects)
                for name, group in groups.items()
            }
        )
        self.weighs_scans = scans is not None
        self.attention = ScanAttention(inner) if self.weighs_scans else nn.Identity()
        self.out_norm: Any = nn.Identity() if gated else SameDtypeLayerNorm(inner)
        self.out_proj = OutProjection(inner, embed_dims, out_proj_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a map.

        Args:
            x: (B, H, W, D).

        Returns:
            (B, H, W, D).

        Raises:
            ValueError: If ``x`` has another shape, or the geometry is the released one and the map
                is not square.
        """
        if x.dim() != 4 or x.shape[-1] != self.embed_dims:
            raise ValueError(
                f'{type(self).__name__} takes a map as (B, H, W, {self.embed_dims}), channels '
                f'last, but got {tuple(x.shape)}'
            )
        if self._is_one_operator(x):
            return ss2d(x, *self._operands(), backend=self.backend, log_A=True)
        if not self.gated:
            return self.out_proj(self.out_norm(self._scan(self.in_proj(x), None)))
        x, z = self.in_proj(x).chunk(2, dim=-1)
        if self.geometry == 'released':
            return self.out_proj(self.out_norm(self._released_sum(x, z)))
        y = self.out_norm(self._scan(x, z))
        return project_gated(self, y, z, self.out_proj, self.backend)

    def _scan(self, x: Tensor, z: Tensor | None) -> Tensor:
        """Compute the sum over all corners (Eq. 15) or their mean, (B, H, W, E), without gate."""
        y = self._sum_groups(x, z)
        return y / self.divisor if self.divisor > 1 else y

    def _sum_groups(self, x: Tensor, z: Tensor | None) -> Tensor:
        """Sum the groups of corners. Groups inside windows do not read class tokens."""
        if self.class_token == 'mean' or not self.in_windows:
            return self._sum(x, z, self.ssm)
        inside = [name for name in self.ssm if name in self.in_windows]
        over_all = [name for name in self.ssm if name not in self.in_windows]
        at_edge = self.class_token == 'edge'
        gate = None if z is None else strip_cross(z, at_edge)
        patches = insert_zeros(self._sum(strip_cross(x, at_edge), gate, inside), at_edge)
        return patches + self._sum(x, z, over_all) if over_all else patches

    def _sum(self, x: Tensor, z: Tensor | None, names: Iterable[str]) -> Tensor:
        outputs = [self.attention(self.ssm[name](x, z)) for name in names]
        return sum(outputs[1:], outputs[0])

    def _released_sum(self, x: Tensor, z: Tensor) -> Tensor:
        """Gate each branch, flip it back as the released code does, and sum."""
        if x.shape[1] != x.shape[2]:
            raise ValueError(
                "geometry='released' transposes its output and needs a square map, but got "
                f"{x.shape[1]} x {x.shape[2]} tokens; use geometry='paper'"
            )
        y = self.attention(self.ssm['all'](x, z, reduction='none'))
        gated = (y * F.silu(z)).unbind()
        flipped = [one.flip(axes) for one, axes in zip(gated, self.flips, strict=True)]
        return sum(flipped[1:], flipped[0]).transpose(1, 2) / 2

    def _is_one_operator(self, x: Tensor) -> bool:
        """Whether :func:`mmv2m.ops.ss2d` may stand for all modules."""
        if self.geometry != 'paper' or self.weighs_scans or self.is_variant:
            return False  # the operator does not support them
        layers = self._modules
        parts = [
            (layers['in_proj'], LINEAR),
            (layers['attention'], NOTHING),
            (layers['out_norm'], NOTHING if self.gated else SAME_DTYPE_NORM),
            (layers['out_proj'], OUT_PROJECTION),
        ]
        parts += [(ssm, CORNER_SSM) for ssm in self.ssm._modules.values()]
        return may_stand_for(self, x, parts)

    def _operands(self) -> tuple[Tensor, Tensor, list[Group], ScanNorm | None]:
        """The arguments of :func:`mmv2m.ops.ss2d` behind the map."""
        weight, norm = self.out_proj.weight, None
        if not self.gated:  # the norm of a mean is the norm of the sum with a larger eps
            scale = self.divisor**2
            norm = ScanNorm(self.out_norm.weight, self.out_norm.bias, self.out_norm.eps * scale)
        elif self.divisor > 1:
            weight = weight * (1 / self.divisor)
        groups = [ssm.group() for ssm in self.ssm._modules.values()]
        return self.in_proj.weight, weight, groups, norm


NOTHING = Known(unchanged(nn.Identity))
