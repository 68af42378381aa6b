"""What the exact 2D state space model projects of each token: time steps, B and C."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .products import project, weight_gradient

__all__ = ['CoupledProjection', 'padded_rank', 'projected_width']


def padded_rank(x: Tensor, rank: int) -> int:
    """R, rounded up on a GPU: products of matrices with aligned rows take half as long there."""
    return -(-rank // 8) * 8 if x.is_cuda else rank


def projected_width(x: Tensor, x_proj: Tensor, rank: int) -> int:
    """How much is projected of a token of maps like ``x``: 2 P + 4 N for a padded rank P.

    Args:
        x: Has the dtype and the device of the maps.
        x_proj: (2 R + 4 N, E).
        rank: R.
    """
    return x_proj.shape[0] + 2 * (padded_rank(x, rank) - rank)


class CoupledProjection(NamedTuple):
    """``[dt_0, dt_1, B_0, B_1, C_0, C_1] = x_proj @ x``, and the expansion of both time steps.

    Attributes:
        x_proj: (2 P + 4 N, E), in the dtype of the maps. Behind the R rows of each time step there
            are rows of zeros up to the padded rank P.
        dt_projs: Of both states, (E, P), in that dtype; with columns of zeros.
        rank: R.
        states: N.
    """

    x_proj: Tensor
    dt_projs: list[Tensor]
    rank: int
    states: int

    @classmethod
    def of(
        cls, x: Tensor, x_proj: Tensor, dt_projs: Sequence[Tensor], states: int
    ) -> 'CoupledProjection':
        """Of maps like ``x``, by weights as they are trained.

        Args:
            x: Has the dtype and the device of the maps.
            x_proj: (2 R + 4 N, E).
            dt_projs: Of both states, (E, R).
            states: N.
        """
        rank = dt_projs[0].shape[1]
        more = padded_rank(x, rank) - rank
        weight, *expansions = (p.to(x.dtype) for p in (x_proj, *dt_projs))
        if more:  # to pad by nothing would copy all the same
            steps = F.pad(weight[: 2 * rank].unflatten(0, (2, rank)), (0, 0, 0, more))
            weight = torch.cat((steps.flatten(0, 1), weight[2 * rank :]))
            expansions = [F.pad(p, (0, more)) for p in expansions]
        return cls(weight, expansions, rank, states)

    @property
    def padded(self) -> int:
        """P."""
        return self.dt_projs[0].shape[1]

    def project(self, maps: Tensor) -> Tensor:
        """(K, B, H, W, E) to (K, B, H, W, 2 P + 4 N)."""
        return project(maps, self.x_proj)

    def parts(self, projected: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Views of what :meth:`project` returns.

        Returns:
            Both time steps of low rank, (tokens, P); B and C of both states, (K, B, H, W, 2, N).
        """
        widths = [self.padded, self.padded, 2 * self.states, 2 * self.states]
        *steps, B, C = projected.split(widths, dim=-1)
        sides = [side.unflatten(-1, (2, self.states)) for side in (B, C)]
        return [step.flatten(0, -2) for step in steps], sides

    def expand(self, steps: Sequence[Tensor], maps: Tensor) -> Tensor:
        """Both time steps before bias and softplus, (2, K, B, H, W, E)."""
        delta = maps.new_empty((2, *maps.shape))
        # One product each, into their places: a batched product leaves the gradients of the weights
        # to a kernel that takes ten times as long, and separate results would have to be copied.
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
        """Add to the gradient of the maps what comes through the projection.

        Args:
            grad_delta: Of what :meth:`expand` returns.
            grad_sides: Of B and C.
            grad_maps: (K, B, H, W, E), contiguous; is added to.
            projected: What :meth:`project` has returned for ``maps``.
            maps: (K, B, H, W, E).
            dtypes: Of the weights as they are trained: x_proj's, and both time steps'.

        Returns:
            Gradients of ``x_proj`` and of both ``dt_projs``, in these dtypes, without padding.
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
        # A view, as `flatten` need not be: the sum has to reach the gradient itself.
        grad_maps.view(rows.shape).addmm_(flat, self.x_proj)
        return self._without_padding(weight_gradient(flat, rows, dtypes[0])), *of_weights

    def _without_padding(self, grad: Tensor) -> Tensor:
        """The gradient of ``x_proj`` as it is trained."""
        if self.padded == self.rank:
            return grad
        steps = grad[: 2 * self.padded].unflatten(0, (2, self.padded))[:, : self.rank]
        return torch.cat((steps.flatten(0, 1), grad[2 * self.padded :]))
