"""Convolution, projections and scan along one axis, as for one of the two scans of the 2D SSM."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend, has
from .checks import (
    MapLike,
    check_floating,
    check_map,
    check_parameters,
    check_same_map,
    check_taps,
)
from .directional_conv import directional_conv
from .directional_scan import directional_scan
from .directions import Direction, read_directions, write_directions
from .operator import differentiate_from_inputs, like_inputs, operator, present
from .precision import state_dtype, without_autocast

__all__ = [
    'check_directions',
    'check_ssm',
    'check_reduction',
    'conv_shape',
    'directional_ssm',
    'exact_parameters',
]

SIDES = dict(input=1, output=1, both=2)
REDUCTIONS = ('none', 'sum')


def directional_ssm(
    x: Tensor,
    gate: Tensor | None,
    conv_weight: Tensor | None,
    conv_bias: Tensor | None,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    directions: Sequence[str | Direction] = ('right',),
    projects: str = 'input',
    reduction: str = 'none',
    backend: str = 'auto',
    log_A: bool = False,
) -> Tensor:
    r"""Apply a selective state space model along directions of a map (V2M, Eq. 9-12).

    Each direction has four steps. The map is multiplied by ``SiLU(gate)`` if there is a gate.
    :func:`directional_conv` follows, and then the projection ``[dt, B, C] = x_proj @ x``, with the
    parts that ``projects`` names; the others are the constant 1. The last step is
    :func:`directional_scan` with ``delta = dt_proj @ dt``, ``dt_bias``, softplus and skip ``D``.
    All directions share the parameters. A backend may fuse the steps, and then keeps only the
    inputs for the backward pass.

    Without ``conv_weight``, there is no convolution, no SiLU behind it, and no gate: ``x`` itself
    is projected and scanned. It is not copied if it is contiguous and there is one direction, or
    one map per direction.

    The gate precedes the convolution, although Mamba gates the output of a scan. A scan's gate can
    be left to the operator that reads its output, where it is cheaper: the second scan of the 2D
    SSM, or :func:`gated_linear`.

    Args:
        x: (B, H, W, E), the same for all K directions, or (K, B, H, W, E), one map per direction.
        gate: (B, H, W, E), or None.
        conv_weight: (E, taps), or (E, 1, taps) as in :class:`torch.nn.Conv1d`; or None.
        conv_bias: (E,), or None.
        x_proj: (R + N, E), or (R + 2 N, E) if ``projects='both'``. The rows of the time step come
            first, then those of B, then those of C.
        dt_proj: (E, R).
        dt_bias: (E,).
        A: (E, N).
        D: (E,).
        directions: K directions, or their names: ``'right', 'left', 'down', 'up'``.
        projects: ``'input'`` (B depends on the token), ``'output'`` (C does) or ``'both'``.
        reduction: ``'none'``, or ``'sum'`` over the directions.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        log_A: Whether ``A`` stands for ``-exp(A)``, as models keep it.

    Returns:
        (K, B, H, W, E), or (B, H, W, E) if summed, in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, a direction or an option is wrong, or there is a gate or
            a bias without a convolution.
        RuntimeError: If the backend asked for cannot run. The message says why.
    """
    parameters = (conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D)
    if projects not in SIDES:
        raise ValueError(f'projects must be one of {", ".join(SIDES)}, but got {projects!r}')
    check_reduction(reduction)
    ways = check_directions(directions)
    one_map = _check_maps(x, gate, directions)
    check_ssm(one_map, gate is not None, parameters, projects)
    backend = choose_backend(backend, x)
    options = (projects, reduction, log_A, backend)
    if has(backend, 'ssm_forward'):
        return _ssm(x, gate, *exact_parameters(parameters, x), ways, *options)
    return _compose(x, gate, parameters, directions, *options)


def check_reduction(reduction: str) -> None:
    """Check the name of a reduction.

    Raises:
        ValueError: If it is unknown.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction must be one of {", ".join(REDUCTIONS)}, but got {reduction!r}')


def check_directions(directions: Sequence[str | Direction]) -> str:
    """Check directions, and write them as text.

    Raises:
        ValueError: If there is no direction, or one is unknown.
    """
    if isinstance(directions, str) or not directions:
        raise ValueError(f'directions must be a sequence of names, but got {directions!r}')
    return write_directions(directions)


def check_ssm(x: Tensor | MapLike, gated: bool, parameters: Sequence[Any], projects: str) -> None:
    """Check the parameters of :func:`directional_ssm`.

    Args:
        x: (B, H, W, E).
        gated: Whether there is a gate.
        parameters: The arguments from ``conv_weight`` to ``D``.
        projects: See :func:`directional_ssm`.

    Raises:
        TypeError: If a parameter has a wrong type or dtype.
        ValueError: If a shape or a device is wrong, or there is a gate or a bias without a
            convolution.
    """
    conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D = parameters
    _check_axes(conv_weight, dict(x_proj=x_proj, dt_proj=dt_proj, dt_bias=dt_bias, A=A, D=D))
    channels, (states, rank) = x.shape[-1], (A.shape[-1], dt_proj.shape[-1])
    for name, given in (('gate', gated), ('conv_bias', conv_bias is not None)):
        if given and conv_weight is None:
            raise ValueError(f'{name} needs a convolution, but conv_weight is None')
    expected = (
        ('conv_weight', conv_weight, conv_shape(conv_weight, channels)),
        ('conv_bias', conv_bias, (channels,)),
        ('x_proj', x_proj, (rank + SIDES[projects] * states, channels)),
        ('dt_proj', dt_proj, (channels, rank)),
        ('dt_bias', dt_bias, (channels,)),
        ('A', A, (channels, states)),
        ('D', D, (channels,)),
    )
    check_parameters(expected, x)


def _check_axes(conv_weight: Any, needed: dict[str, Any]) -> None:
    """Check that all needed tensors are given, and have the axes whose sizes are read."""
    for name, value in needed.items():
        check_floating(name, value)
    for name, axes in (('A', '(E, N)'), ('dt_proj', '(E, R)')):
        if needed[name].dim() != 2:
            raise ValueError(f'{name} must be {axes}, but has shape {tuple(needed[name].shape)}')
    if conv_weight is not None:
        check_taps('conv_weight', conv_weight)


def conv_shape(weight: Tensor | None, channels: int) -> tuple[int, ...]:
    """The expected shape of a convolution's weight: (E, taps), or (E, 1, taps) if it has 3 axes."""
    if weight is None:
        return ()
    return (channels, 1, weight.shape[-1]) if weight.dim() == 3 else (channels, weight.shape[-1])


def _check_maps(x: Tensor, gate: Tensor | None, directions: Sequence[Any]) -> Tensor:
    """Check the maps and the gate, and return one of the maps."""
    check_floating('x', x)
    if x.dim() == 5 and x.shape[0] != len(directions):
        raise ValueError(f'x has {x.shape[0]} maps for {len(directions)} directions')
    if x.dim() not in (4, 5):
        raise ValueError(
            f'x must be (B, H, W, E) or (K, B, H, W, E), but has shape {tuple(x.shape)}'
        )
    one_map = x if x.dim() == 4 else x[0]
    check_map('x', one_map)
    check_same_map('gate', gate, one_map)
    return one_map


def exact_parameters(parameters: Sequence[Tensor | None], x: Tensor) -> Iterator[Tensor | None]:
    """Cast parameters to the dtype of the states of ``x``."""
    dtype = state_dtype(x)
    return (p if p is None or p.dtype is dtype else p.to(dtype) for p in parameters)


def _one_map_a_direction(x: Tensor, *args: Any) -> Tensor:
    directions, _, reduction, *_ = args[8:]
    count = len(read_directions(directions))
    shape = x.shape[-4:] if reduction == 'sum' else (count, *x.shape[-4:])
    return torch.empty(shape, dtype=x.dtype, device=x.device)


@operator('directional_ssm', _one_map_a_direction)
def _ssm(*args: Any) -> Tensor:
    tensors, (*options, backend) = args[:9], args[9:]
    return BACKENDS[backend].ssm_forward(tensors, *options)[0]


@operator('directional_ssm_backward', like_inputs)
def _ssm_backward(grad_y: Tensor, *args: Any) -> list[Tensor]:
    tensors, (*options, backend) = args[:9], args[9:]
    return present(BACKENDS[backend].ssm_backward(grad_y, tensors, *options))


differentiate_from_inputs(_ssm, _ssm_backward)


def _compose(
    x: Tensor,
    gate: Tensor | None,
    parameters: tuple,
    directions: Sequence[str | Direction],
    projects: str,
    reduction: str,
    log_A: bool,
    backend: str,
) -> Tensor:
    """Run the steps of one direction after the other, as operators of their own."""
    conv_weight, *others, A, D = parameters
    if log_A:
        A = -A.to(state_dtype(x)).exp()
    conv_weight = None if conv_weight is None else conv_weight.flatten(1)
    parameters = (conv_weight, *others, A, D)
    opened = None if gate is None else F.silu(gate.to(state_dtype(gate)))
    outputs = []
    for k, direction in enumerate(directions):
        one = x if x.dim() == 4 else x[k]
        one = one if opened is None else (one * opened).to(x.dtype)
        outputs.append(_one_direction(one, parameters, direction, projects, backend))
    return sum(outputs[1:], outputs[0]) if reduction == 'sum' else torch.stack(outputs)


def _one_direction(
    x: Tensor, parameters: tuple, direction: str | Direction, projects: str, backend: str
) -> Tensor:
    conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D = parameters
    if conv_weight is not None:
        x = directional_conv(x, conv_weight, conv_bias, direction, backend)
    # The operator takes tensors of one dtype, and an autocast here would add a second one.
    with without_autocast(x):
        dt, *sides = F.linear(x, x_proj.to(x.dtype)).split(
            [dt_proj.shape[1], *[A.shape[1]] * SIDES[projects]], dim=-1
        )
        delta = F.linear(dt, dt_proj.to(x.dtype))
    return directional_scan(
        x,
        delta,
        A,
        B=None if projects == 'output' else sides[0],
        C=None if projects == 'input' else sides[-1],
        D=D,
        delta_bias=dt_bias,
        delta_softplus=True,
        direction=direction,
        backend=backend,
    )
