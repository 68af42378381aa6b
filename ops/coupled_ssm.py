"""The exact 2D state space model from several corners: convolutions, projections and one scan."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend, has
from .checks import check_floating, check_map, check_parameters, check_taps
from .coupled_projection import CoupledProjection, projected_width
from .coupled_scan import check_corners, coupled_scan
from .directional_conv import directional_conv
from .directional_ssm import check_reduction, conv_shape
from .directions import CORNERS, Corner, read_corners, write_directions
from .operator import (
    differentiate_from_kept,
    like_inputs_not_kept,
    operator,
    present,
)
from .precision import state_dtype, without_autocast

__all__ = ['coupled_ssm']

Layer = tuple[Tensor, Tensor | None]
"""Weight and bias of a layer."""


class _Parameters(NamedTuple):
    """The parameters of :func:`coupled_ssm`.

    Where there are two of a kind, the first belongs to the first direction or state.
    """

    conv: Tensor
    conv_bias: Tensor | None
    second_conv: Tensor
    second_conv_bias: Tensor | None
    x_proj: Tensor
    dt_proj: Tensor
    second_dt_proj: Tensor
    dt_bias: Tensor
    A: Tensor
    weight: Tensor
    D: Tensor

    @property
    def dt_projs(self) -> tuple[Tensor, Tensor]:
        """Weights that expand the time steps of both states."""
        return self.dt_proj, self.second_dt_proj

    def projection(self, x: Tensor) -> CoupledProjection:
        """The projection of maps that have the dtype and device of ``x``."""
        return CoupledProjection.of(x, self.x_proj, self.dt_projs, self.A.shape[-1])


def coupled_ssm(
    x: Tensor,
    convs: Sequence[Layer],
    x_proj: Tensor,
    dt_projs: Sequence[Layer],
    A: Tensor,
    weight: Tensor,
    D: Tensor,
    corners: Sequence[str | Corner] = ('UL',),
    reduction: str = 'none',
    backend: str = 'auto',
) -> Tensor:
    r"""Apply a selective state space model with two coupled states from corners (V2M, Eq. 5 to 8).

    Each corner has four steps: :func:`directional_conv` along its first direction, the same along
    its second direction, the projection ``[dt_0, dt_1, B_0, B_1, C_0, C_1] = x_proj @ x`` of each
    token, and :func:`coupled_scan` with ``delta_k = dt_proj_k @ dt_k``, the biases, softplus and
    skip ``D``. All corners share the parameters. If a backend has these steps, they are one
    operator, which keeps the convolved maps and the projections for the backward pass.

    Args:
        x: (B, H, W, E); float16, bfloat16, float32 or float64.
        convs: Weight and bias of each direction's convolution. The weight is (E, taps), or (E, 1,
            taps) as in :class:`torch.nn.Conv1d`. The bias is (E,) or None.
        x_proj: (2 R + 4 N, E).
        dt_projs: Weight, (E, R), and bias, (E,), of each state's time step.
        A: (2, 2, E, N); see :func:`coupled_scan`.
        weight: (2, 2, E); see :func:`coupled_scan`.
        D: (E,).
        corners: K names in :data:`mmv2m.ops.CORNERS`, or :class:`mmv2m.ops.Corner` values.
        reduction: ``'none'``, or ``'sum'`` over the corners.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (K, B, H, W, E), or (B, H, W, E) if summed, in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, a corner or an option is wrong.
        RuntimeError: If the backend asked for cannot run. The message says why.
    """
    check_map('x', x)
    check_reduction(reduction)
    ways = check_corners(corners)
    _check(x, convs, x_proj, dt_projs, A, weight, D)
    backend = choose_backend(backend, x, 'coupled_scan_forward', 'coupled_scan_backward')
    dtype = state_dtype(x)
    conv, second_conv = (weight.flatten(1).to(dtype) for weight, _ in convs)
    conv_bias, second_bias = (None if bias is None else bias.to(dtype) for _, bias in convs)
    (dt_proj, dt_bias), (second_dt_proj, second_dt_bias) = dt_projs
    assert dt_bias is not None and second_dt_bias is not None
    given = _Parameters(
        *(conv, conv_bias, second_conv, second_bias, x_proj, dt_proj, second_dt_proj),
        torch.stack((dt_bias.to(dtype), second_dt_bias.to(dtype))),
        *(p.to(dtype) for p in (A, weight, D)),
    )
    if has(backend, 'convs_forward'):
        return _ssm(x, list(given), ways, reduction, backend)[0]
    return _compose(x, given, corners, reduction, backend)


def _check(
    x: Tensor,
    convs: Sequence[Layer],
    x_proj: Tensor,
    dt_projs: Sequence[Layer],
    A: Tensor,
    weight: Tensor,
    D: Tensor,
) -> None:
    """Check the parameters, and raise the errors that :func:`coupled_ssm` names."""
    _check_layers(convs, dt_projs)
    if not isinstance(A, Tensor) or A.dim() != 4:
        raise ValueError(f'A must be a (2, 2, E, N) tensor, but is {getattr(A, "shape", A)}')
    for name, value in (('x_proj', x_proj), ('weight', weight), ('D', D)):
        check_floating(name, value)
    channels, states, rank = x.shape[-1], A.shape[-1], dt_projs[0][0].shape[-1]
    expected: list[tuple[str, Any, tuple[int, ...]]] = [
        ('x_proj', x_proj, (2 * rank + 4 * states, channels)),
        ('A', A, (2, 2, channels, states)),
        ('weight', weight, (2, 2, channels)),
        ('D', D, (channels,)),
    ]
    for k in range(2):
        conv, conv_bias = convs[k]
        dt_proj, dt_bias = dt_projs[k]
        expected += [
            (f'convs[{k}][0]', conv, conv_shape(conv, channels)),
            (f'convs[{k}][1]', conv_bias, (channels,)),
            (f'dt_projs[{k}][0]', dt_proj, (channels, rank)),
            (f'dt_projs[{k}][1]', dt_bias, (channels,)),
        ]
    check_parameters(expected, x)


def _check_layers(convs: Sequence[Layer], dt_projs: Sequence[Layer]) -> None:
    """Check the number of layers, the axes of their weights, and the time steps' biases.

    Raises:
        TypeError: If a weight is no tensor of real floating-point numbers.
        ValueError: If there are not two layers of each kind, a weight has other axes, or the bias
            of a time step is missing.
    """
    if len(convs) != 2 or len(dt_projs) != 2:
        raise ValueError(
            'convs and dt_projs must have two layers each, but have '
            f'{len(convs)} and {len(dt_projs)}'
        )
    for k in range(2):
        (conv, _), (dt_proj, dt_bias) = convs[k], dt_projs[k]
        check_taps(f'convs[{k}][0]', conv)
        check_floating(f'dt_projs[{k}][0]', dt_proj)
        if dt_proj.dim() != 2:
            raise ValueError(
                f'dt_projs[{k}][0] must be (E, R), but has shape {tuple(dt_proj.shape)}'
            )
        if dt_bias is None:
            raise ValueError(f'dt_projs[{k}] has no bias')


def _directions(corners: str) -> tuple[str, str]:
    """Write the first directions of all corners as text, and the second ones too."""
    group = read_corners(corners)[0]
    return write_directions(group.first), write_directions(group.second)


def _like_results(
    x: Tensor, parameters: Sequence[Tensor | None], corners: str, reduction: str, backend: str
) -> list[Tensor]:
    given = _Parameters(*parameters)  # type: ignore[arg-type]
    maps = x.new_empty((len(read_corners(corners)[0].corners), *x.shape))
    y = torch.empty_like(maps[0] if reduction == 'sum' else maps)
    width = projected_width(x, given.x_proj, given.dt_proj.shape[1])
    projected = maps.new_empty((*maps.shape[:-1], width))
    return [y, torch.empty_like(maps), torch.empty_like(maps), projected]


@operator('coupled_ssm', _like_results)
def _ssm(
    x: Tensor, parameters: Sequence[Tensor | None], corners: str, reduction: str, backend: str
) -> list[Tensor]:
    """Compute the result, the maps behind each convolution, and the projections.

    The latter are kept for the backward pass.
    """
    given, run = _Parameters(*parameters), BACKENDS[backend]  # type: ignore[arg-type]
    firsts, seconds = _directions(corners)
    between = run.convs_forward(x, given.conv, given.conv_bias, firsts)
    maps = run.convs_forward(between, given.second_conv, given.second_conv_bias, seconds)
    with without_autocast(x):
        projection = given.projection(x)
        projected = projection.project(maps)
        steps, sides = projection.parts(projected)
        delta = projection.expand(steps, maps)
        y = run.coupled_scan_forward(maps, delta, *_of_scan(given, sides, corners))
        y = y.sum(0) if reduction == 'sum' else y
    return [y.contiguous(), between, maps, projected]


def _of_scan(given: _Parameters, sides: Sequence[Tensor], corners: str) -> tuple[Any, ...]:
    """The arguments of the scan behind ``x`` and ``delta``."""
    return given.A, given.weight, *sides, given.D, given.dt_bias, True, corners


@operator('coupled_ssm_backward', like_inputs_not_kept)
def _ssm_backward(
    grad_y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    parameters: Sequence[Tensor | None],
    corners: str,
    reduction: str,
    backend: str,
) -> list[Tensor]:
    given, run = _Parameters(*parameters), BACKENDS[backend]  # type: ignore[arg-type]
    (firsts, seconds), (between, maps, projected) = _directions(corners), kept
    dtypes = [weight.dtype for weight in (given.x_proj, *given.dt_projs)]
    with without_autocast(x):
        projection = given.projection(x)
        steps, sides = projection.parts(projected)
        delta = projection.expand(steps, maps)
        grad_y = grad_y.expand(maps.shape) if reduction == 'sum' else grad_y
        of_scan = _of_scan(given, sides, corners)
        found = run.coupled_scan_backward(grad_y, maps, delta, *of_scan)
        grad_maps, grad_delta, grad_A, grad_weight, *grad_sides, grad_D, grad_bias = found
        of_weights = projection.gradients(
            grad_delta, grad_sides, grad_maps, projected, maps, dtypes
        )
        of_second = run.convs_backward(
            grad_maps, between, given.second_conv, given.second_conv_bias, seconds
        )
        grad_x, *of_conv = run.convs_backward(of_second[0], x, given.conv, given.conv_bias, firsts)
    of_rest = (grad_bias, grad_A, grad_weight, grad_D)
    return present((grad_x, *of_conv, *of_second[1:], *of_weights, *of_rest))


differentiate_from_kept(_ssm, _ssm_backward)


def _compose(
    x: Tensor, given: _Parameters, corners: Sequence[str | Corner], reduction: str, backend: str
) -> Tensor:
    """Run the steps as operators of their own."""
    found = [corner if isinstance(corner, Corner) else CORNERS[corner] for corner in corners]
    first, second = (given.conv, given.conv_bias), (given.second_conv, given.second_conv_bias)
    maps = directional_conv(x, *first, [corner.first for corner in found], backend)
    maps = directional_conv(maps, *second, [corner.second for corner in found], backend)
    rank, states = given.dt_proj.shape[1], given.A.shape[-1]
    # The operator takes tensors of one dtype, and an autocast here would add a second one.
    with without_autocast(x):
        projected = F.linear(maps, given.x_proj.to(x.dtype))
        *steps, B, C = projected.split([rank, rank, 2 * states, 2 * states], dim=-1)
        pairs = zip(steps, given.dt_projs, strict=True)
        delta = torch.stack([F.linear(step, weight.to(x.dtype)) for step, weight in pairs])
        B, C = (side.unflatten(-1, (2, states)) for side in (B, C))
        parameters = (given.A, given.weight, B, C, given.D, given.dt_bias)
        y = coupled_scan(maps, delta, *parameters, True, found, backend)
        return y.sum(0) if reduction == 'sum' else y
