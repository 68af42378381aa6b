"""The projections of the exact 2D state space model: time steps, B and C of each token."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .products import project, weight_gradient

__all__ = ['CoupledProjection', 'padded_rank', 'projected_width']


def padded_rank(x: Tensor, rank: int) -> int:
    """Round the rank R up on a GPU, where products of matrices with aligned rows are faster."""
    return -(-rank // 8) * 8 if x.is_cuda else rank


def projected_width(x: Tensor, x_proj: Tensor, rank: int) -> int:
    """Number of values that each token is projected to: 2 P + 4 N for a padded rank P.

    Args:
        x: A tensor on the device of the maps.
        x_proj: (2 R + 4 N, E).
        rank: R.
    """
    return x_proj.shape[0] + 2 * (padded_rank(x, rank) - rank)


class CoupledProjection(NamedTuple):
    """``[dt_0, dt_1, B_0, B_1, C_0, C_1] = x_proj @ x``, and the expansion of both time steps.

    Attributes:
        x_proj: (2 P + 4 N, E), in the dtype of the maps. The R rows of each time step are padded
            with rows of zeros up to the padded rank P.
        dt_projs: The expansion of each state's time step, (E, P), in the dtype of the maps, padded
            with columns of zeros.
        rank: The rank R without padding.
        states: Number of states, N.
    """

    x_proj: Tensor
    dt_projs: list[Tensor]
    rank: int
    states: int

    @classmethod
    def of(
        cls, x: Tensor, x_proj: Tensor, dt_projs: Sequence[Tensor], states: int
    ) -> 'CoupledProjection':
        """Cast and pad weights for maps like ``x``.

        Args:
            x: A tensor with the dtype and the device of the maps.
            x_proj: (2 R + 4 N, E), in any floating dtype.
            dt_projs: The expansion of each state's time step, (E, R), in any floating dtype.
            states: Number of states, N.
        """
        rank = dt_projs[0].shape[1]
        more = padded_rank(x, rank) - rank
        weight, *expansions = (p.to(x.dtype) for p in (x_proj, *dt_projs))
        if more:  # padding by 0 would copy the weights too
            steps = F.pad(weight[: 2 * rank].unflatten(0, (2, rank)), (0, 0, 0, more))
            weight = torch.cat((steps.flatten(0, 1), weight[2 * rank :]))
            expansions = [F.pad(p, (0, more)) for p in expansions]
        return cls(weight, expansions, rank, states)

    @property
    def padded(self) -> int:
        """The padded rank P."""
        return self.dt_projs[0].shape[1]

    def project(self, maps: Tensor) -> Tensor:
        """(K, B, H, W, E) to (K, B, H, W, 2 P + 4 N)."""
        return project(maps, self.x_proj)

    def parts(self, projected: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """View the result of :meth:`project` as its parts.

        Returns:
            The low-rank time step of each state, (tokens, P), and B and C of both states, (K, B, H,
            W, 2, N).
        """
        widths = [self.padded, self.padded, 2 * self.states, 2 * self.states]
        *steps, B, C = projected.split(widths, dim=-1)
        sides = [side.unflatten(-1, (2, self.states)) for side in (B, C)]
        return [step.flatten(0, -2) for step in steps], sides

    def expand(self, steps: Sequence[Tensor], maps: Tensor) -> Tensor:
        """Compute both time steps before bias and softplus, (2, K, B, H, W, E)."""
        delta = maps.new_empty((2, *maps.shape))
        # Each product writes to its part of the result, since separate results would have to be
        # copied. One batched product would be slow: the kernel for the gradients of its weights
        # takes ten times as long.
        for step, weight, out in zip(steps, self.dt_projs, delta, strict=True):
            torch.mm(step, weight.t(), out=out.flatten(0, -2))
        return delta

    def gradients(
        self,
        grad_delta: Tensor,
        grad_sides: Sequence[Tensor],
        grad_maps: Tensor,
        projected: Tensor,
        maps: Tensor,
        dtypes: Sequence[torch.dtype],
    ) -> tuple[Tensor, ...]:
        """Compute the weights' gradients, and add the projection's part to the maps' gradient.

        Args:
            grad_delta: (2, K, B, H, W, E), the gradient of the result of :meth:`expand`.
            grad_sides: Gradients of B and C, each (K, B, H, W, 2, N).
            grad_maps: (K, B, H, W, E), contiguous. It is changed in place.
            projected: The result of :meth:`project` for ``maps``.
            maps: (K, B, H, W, E).
            dtypes: Dtypes of the trained ``x_proj`` and of both ``dt_projs``.

        Returns:
            Gradients of ``x_proj`` and of both ``dt_projs``, in ``dtypes``, without padding.
        """
        grad = torch.empty_like(projected)
        (of_steps, of_sides), (steps, _) = self.parts(grad), self.parts(projected)
        of_weights = []
        for k, weight in enumerate(self.dt_projs):
            rows = grad_delta[k].flatten(0, -2)
            torch.mm(rows, weight, out=of_steps[k])
            of_weights.append(weight_gradient(rows, steps[k], dtypes[1 + k])[:, : self.rank])
        for target, value in zip(of_sides, grad_sides, strict=True):
            target.copy_(value)
        flat, rows = grad.flatten(0, -2), maps.flatten(0, -2)
        # The sum has to reach ``grad_maps`` itself. ``view`` never copies, unlike ``flatten``.
        grad_maps.view(rows.shape).addmm_(flat, self.x_proj)
        return self._without_padding(weight_gradient(flat, rows, dtypes[0])), *of_weights

    def _without_padding(self, grad: Tensor) -> Tensor:
        """Remove the padding from the gradient of ``x_proj``."""
        if self.padded == self.rank:
            return grad
        steps = grad[: 2 * self.padded].unflatten(0, (2, self.padded))[:, : self.rank]
        return torch.cat((steps.flatten(0, 1), grad[2 * self.padded :]))
