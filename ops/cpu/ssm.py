"""Convolution, projections and scan of several directions as one operator.

Between forward and backward pass, only the operator's inputs are kept, and low-rank time steps and
sides if asked for. Several directions run together if their maps fit into the cache. Otherwise, one
runs after the other.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..directions import DIRECTIONS, Direction
from ..precision import products_like, state_dtype
from ..ssm_tensors import SSMTensors
from .build import kernels

__all__ = ['numbers', 'ssm_backward', 'ssm_forward']

TOGETHER = 2**19
"""Numbers in the maps of directions that run together, which take 2 MiB in float32."""

NUMBERS = {name: number for number, name in enumerate(DIRECTIONS)}


def numbers(directions: Sequence[Direction]) -> list[int]:
    """Convert directions to the numbers that the kernels take."""
    return [NUMBERS[direction.name] for direction in directions]


class Projected(NamedTuple):
    """The inputs of the scan for some directions.

    Attributes:
        maps: (K, B, H, W, E).
        mixed: Low-rank time steps, then B, then C, (K, B, H, W, R + sides).
        delta: (K, B, H, W, E), before bias and softplus.
        B: (K, B, H, W, N), or None.
        C: (K, B, H, W, N), or None.
    """

    maps: Tensor
    mixed: Tensor
    delta: Tensor
    B: Tensor | None
    C: Tensor | None

    @property
    def scanned(self) -> tuple[Tensor, ...]:
        """Maps and time steps."""
        return self.maps, self.delta


def ssm_forward(
    tensors: Sequence[Any],
    directions: Sequence[Direction],
    projects: str,
    reduction: str,
    log_A: bool = False,
    add_to: Tensor | None = None,
    keeps: bool = False,
    gates_sum: bool = False,
) -> tuple[Tensor, ...]:
    """Run :func:`mmv2m.ops.directional_ssm`.

    Args:
        tensors: The tensors of :class:`SSMTensors`.
        directions: The directions, as values.
        projects: See :func:`mmv2m.ops.directional_ssm`. With ``keeps``, it must not be ``'both'``.
        reduction: See :func:`mmv2m.ops.directional_ssm`.
        log_A: See :func:`mmv2m.ops.directional_ssm`.
        add_to: A map to which the sum over the directions is added, in place.
        keeps: Whether to return low-rank time steps and the side for the backward pass.
        gates_sum: Whether the sum over the directions goes through the gate too, at the end.

    Returns:
        The output, which is ``add_to`` if that is given. With ``keeps``, also low-rank time steps,
        (K, B, H, W, R), in the dtype of ``x``, and the side, (K, B, H, W, N), in float32.
    """
    given, sums = SSMTensors(*tensors), reduction == 'sum'
    shape = given.x.shape[-4:] if sums else (len(directions), *given.x.shape[-4:])
    y = given.x.new_empty(shape) if add_to is None else add_to
    mixed = []
    for part, ways in _parts(given, directions):
        read = _project(given.select(part), ways, projects)
        mixed.append(read.mixed)
        to, adds = (y, add_to is not None or part.start > 0) if sums else (y[part], False)
        z = given.gate if gates_sum and part.stop >= len(directions) else None
        kernels().scan_forward(
            *(*read.scanned, given.A, read.B, read.C, given.D, z, given.dt_bias, True),
            *(log_A, ways, to, adds),
        )
    if not keeps:
        return (y,)
    rank = given.dt_proj.shape[1]
    low_rank, side = (torch.cat(mixed) if len(mixed) > 1 else mixed[0]).tensor_split([rank], -1)
    return y, low_rank.contiguous(), side.to(state_dtype(y)).contiguous()


def ssm_backward(
    grad_y: Tensor,
    tensors: Sequence[Any],
    directions: Sequence[Direction],
    projects: str,
    reduction: str,
    log_A: bool = False,
    kept: Sequence[Tensor] = (),
    targets: tuple[Tensor | None, Tensor | None] = (None, None),
    adds: tuple[bool, bool] = (False, False),
) -> list[Tensor | None]:
    """Compute gradients of the nine tensors, given the gradient of the output.

    Args:
        grad_y: Gradient of the output.
        tensors: See :func:`ssm_forward`.
        directions: See :func:`ssm_forward`.
        projects: See :func:`ssm_forward`.
        reduction: See :func:`ssm_forward`.
        log_A: See :func:`ssm_forward`.
        kept: Low-rank time steps and the side, if :func:`ssm_forward` has returned them.
        targets: Maps for the gradients of ``x`` and the gate; None for new ones.
        adds: For each target, whether the gradient is added to it instead of overwriting it.
    """
    given = SSMTensors(*tensors)
    to_x, to_gate = (_target(t, to) for t, to in zip(given[:2], targets, strict=True))
    assert to_x is not None
    A, sums, has_own_maps = _exact_A(given.A, log_A), None, given.x.dim() == 5
    for part, ways in _parts(given, directions):
        upstream = grad_y.expand(len(ways), *grad_y.shape) if reduction == 'sum' else grad_y[part]
        some, begins = given.select(part), part.start == 0
        read = _project(some, ways, projects, [t[part] for t in kept])
        grad_maps, *of_projections = _projected_backward(upstream, some, ways, A, read)
        of_maps = to_x[part] if has_own_maps else to_x, to_gate
        adds_now = adds[0] or not (begins or has_own_maps), adds[1] or not begins
        new = [*_conv_backward(grad_maps, some, ways, of_maps, adds_now), *of_projections]
        sums = new if sums is None else [_add(a, b) for a, b in zip(sums, new, strict=True)]
    assert sums is not None
    if log_A:
        *others, of_A, of_D = sums
        sums = [*others, of_A * A, of_D]
    return [to_x, to_gate, *sums]


def _add(a: Any, b: Any) -> Any:
    """Add two gradients, or return None if there are none."""
    return None if a is None else a + b


def _target(value: Tensor | None, target: Tensor | None) -> Tensor | None:
    """The map for the gradient of an optional map: the target, or a new one."""
    return target if value is None or target is not None else value.new_empty(value.shape)


def _exact_A(A: Tensor, log_A: bool) -> Tensor:
    return -A.exp() if log_A else A


def _parts(given: SSMTensors, directions: Sequence[Direction]) -> Iterator[tuple[slice, list[int]]]:
    """Divide directions into parts that run together: their places, and the kernels' numbers."""
    size = given.x[0].numel() if given.x.dim() == 5 else given.x.numel()
    count = max(1, TOGETHER // max(1, size))
    for start in range(0, len(directions), count):
        part = slice(start, start + count)
        yield part, numbers(directions[part])


def _project(
    given: SSMTensors, ways: list[int], projects: str, kept: Sequence[Tensor] = ()
) -> Projected:
    """Run the convolutions, and the projections that were not kept."""
    conv = given.conv()
    if conv is None:
        # This copies only a map that several directions share, or one that has gaps.
        maps = given.x.expand(len(ways), *given.x.shape[-4:]).contiguous()
    else:
        maps = kernels().conv_forward(*conv, ways)
    rank, states = given.dt_proj.shape[1], given.A.shape[1]
    with products_like(maps):
        if kept:
            mixed = torch.cat([t.to(maps.dtype) for t in kept], -1)
        else:
            mixed = F.linear(maps, given.x_proj.to(maps.dtype))
        low_rank = mixed.flatten(0, -2)[:, :rank]
        delta = (low_rank @ given.dt_proj.to(maps.dtype).t()).view_as(maps)
    B = None if projects == 'output' else mixed[..., rank : rank + states]
    C = None if projects == 'input' else mixed[..., -states:]
    return Projected(maps, mixed, delta, B, C)


def _projected_backward(
    grad_y: Tensor, given: SSMTensors, ways: list[int], A: Tensor, read: Projected
) -> list[Tensor]:
    """Compute gradients of the scanned maps, and of the parameters from ``x_proj`` on."""
    grad_maps, grad_delta, grad_A, grad_B, grad_C, grad_D, _, grad_bias = kernels().scan_backward(
        *(grad_y, read.maps, read.delta, A, read.B, read.C, given.D, None, given.dt_bias),
        *(True, ways),
    )
    rows, mixed, of_delta = (t.flatten(0, -2) for t in (read.maps, read.mixed, grad_delta))
    sides = [
        grad.flatten(0, -2)
        for grad, side in ((grad_B, read.B), (grad_C, read.C))
        if side is not None
    ]
    with products_like(rows):
        of_mixed = torch.cat([of_delta @ given.dt_proj.to(rows.dtype), *sides], -1)
        of_dt_proj = of_delta.t() @ mixed[:, : given.dt_proj.shape[1]]
        of_x_proj = of_mixed.t() @ rows
        grad_maps.flatten(0, -2).addmm_(of_mixed, given.x_proj.to(rows.dtype))
    exact = state_dtype(rows)
    return [grad_maps, of_x_proj.to(exact), of_dt_proj.to(exact), grad_bias, grad_A, grad_D]


def _conv_backward(
    grad_maps: Tensor,
    given: SSMTensors,
    ways: list[int],
    targets: tuple[Tensor, Tensor | None],
    adds: tuple[bool, bool],
) -> list[Any]:
    """Write or add the gradients of ``x`` and the gate, and return those of weight and bias."""
    if given.conv_weight is None:
        to_x, _ = targets
        total = grad_maps if to_x.dim() == 5 else grad_maps.sum(0)
        _ = to_x.add_(total) if adds[0] else to_x.copy_(total)
        return [None, None]
    weight = given.conv_weight.flatten(1)
    of_weight, of_bias = kernels().conv_backward(
        *(grad_maps, given.x, given.gate, weight, given.conv_bias, ways, *targets, *adds)
    )
    return [of_weight.view_as(given.conv_weight), of_bias if given.conv_bias is not None else None]
