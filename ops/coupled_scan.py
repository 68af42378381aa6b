"""The exact 2D recurrence: two states that are coupled, one along rows and one along columns."""

from collections.abc import Sequence

from torch import Tensor

from .backend_operator import backend_operator
from .backends import choose_backend
from .checks import check_floating, check_like, check_parameters
from .directions import CORNERS, Corner, write_corners
from .operator import (
    differentiate_again,
    like_x,
)
from .precision import state_dtype
from .reference import coupled_scan_reference

__all__ = ['check_corners', 'coupled_scan']


def coupled_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    weight: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    corners: Sequence[str | Corner] = ('UL',),
    backend: str = 'auto',
) -> Tensor:
    r"""Scan maps selectively with both coupled states of Roesser's model (V2M, Eq. 6 to 8).

    Each of K maps is walked from a corner of its own. The index ``j`` runs along the corner's first
    direction, and ``i`` along its second one. The state ``p`` moves along the first direction, and
    the state ``q`` along the second one. For channel ``e`` and state ``n``

    .. math::
        \Delta_k &= \mathrm{softplus}(delta_k + delta\_bias_k), \quad
        a_{kl} = w_{kl}[e] \exp(\Delta_k[e] A_{kl}[e, n]) \\
        p_{i,j} &= a_{00}\, p_{i,j-1} + a_{01}\, q_{i-1,j} + \Delta_0[e]\, B_0[n]\, x[e] \\
        q_{i,j} &= a_{10}\, p_{i,j-1} + a_{11}\, q_{i-1,j} + \Delta_1[e]\, B_1[n]\, x[e] \\
        y_{i,j} &= \sum_n (C_0[n]\, p_{i,j} + C_1[n]\, q_{i,j}) + D[e]\, x[e]

    where the softplus, the bias and the skip ``D`` are left out if they are not given. States
    outside the map are 0. ``delta``, ``B``, ``C`` and ``x`` are taken at the token ``i, j``. States
    and sums are float32 (float64 if ``x`` is float64), also under autocast. Gradients are summed in
    a fixed order.

    The states do not grow if ``A`` is not positive, time steps are not negative, and the weights of
    each state sum to at most 1: :math:`|w_{00}| + |w_{01}| \le 1` and :math:`|w_{10}| + |w_{11}|
    \le 1`. Then, without an input, :math:`\max(|p_{i,j}|, |q_{i,j}|) \le \max(|p_{i,j-1}|,
    |q_{i-1,j}|)`. With all weights equal to 1, which is Eq. 7 and 8 as printed, states grow with
    the number of paths to a token.

    Args:
        x: Input maps, (K, B, H, W, E), one per corner, in float16, bfloat16, float32 or float64.
            Any strides and sizes are allowed, including 0.
        delta: Time steps of both states before bias and softplus, (2, K, B, H, W, E), in the dtype
            of ``x``, with any strides.
        A: Evolution parameters, (2, 2, E, N), real. ``A[k, l]`` is the rate at which state l enters
            state k. The paper calls them A1 and A2 (first row), A3 and A4 (second row).
        weight: Share of each of these four terms, (2, 2, E).
        B: Input projections of each token, (K, B, H, W, 2, N), in the dtype of ``x``, with any
            strides.
        C: Output projections of each token, like ``B``.
        D: Skip, (E,).
        delta_bias: Added to ``delta``, (2, E).
        delta_softplus: Whether ``delta`` goes through a softplus.
        corners: K names in :data:`mmv2m.ops.CORNERS`, or :class:`mmv2m.ops.Corner` values.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS` that has this operator.

    Returns:
        (K, B, H, W, E) in the dtype of ``x``, contiguous.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, a corner or the backend's name is wrong.
        RuntimeError: If the backend asked for cannot run, or has no such operator. The message says
            why.
    """
    check_floating('x', x)
    if x.dim() != 5:
        raise ValueError(f'x must be (K, B, H, W, E) maps, but has shape {tuple(x.shape)}')
    ways = check_corners(corners)
    if len(corners) != x.shape[0]:
        raise ValueError(
            f'x must have one map per corner, but has {x.shape[0]} maps for {len(corners)} corners'
        )
    if not isinstance(A, Tensor) or A.dim() != 4:
        raise ValueError(f'A must be a (2, 2, E, N) tensor, but is {getattr(A, "shape", A)}')
    channels, states = x.shape[-1], A.shape[-1]
    check_like('delta', delta, (2, *x.shape), x)
    check_like('B', B, (*x.shape[:-1], 2, states), x)
    check_like('C', C, (*x.shape[:-1], 2, states), x)
    check_floating('weight', weight)
    check_parameters(
        (
            ('A', A, (2, 2, channels, states)),
            ('weight', weight, (2, 2, channels)),
            ('D', D, (channels,)),
            ('delta_bias', delta_bias, (2, channels)),
        ),
        x,
    )
    backend = choose_backend(backend, x, 'coupled_scan_forward', 'coupled_scan_backward')

    dtype = state_dtype(x)
    A, weight = A.to(dtype), weight.to(dtype)
    D, delta_bias = (None if p is None else p.to(dtype) for p in (D, delta_bias))
    return _scan(x, delta, A, weight, B, C, D, delta_bias, delta_softplus, ways, backend)


def check_corners(corners: Sequence[str | Corner]) -> str:
    """Check corners, and write them as text.

    Raises:
        ValueError: If there is no corner, one is unknown, or one does not walk along both axes or
            flips.
    """
    if not isinstance(corners, Sequence) or isinstance(corners, (str, Corner)) or not corners:
        raise ValueError(f'corners must be a sequence of {", ".join(CORNERS)}, but got {corners!r}')
    for corner in corners:
        if not isinstance(corner, Corner) and corner not in CORNERS:
            raise ValueError(f'corners must be some of {", ".join(CORNERS)}, but got {corner!r}')
    found = [corner if isinstance(corner, Corner) else CORNERS[corner] for corner in corners]
    if any(corner.first.axis == corner.second.axis or corner.flip for corner in found):
        raise ValueError(
            f'a corner must walk along both axes and flip nothing, but corners are {found}'
        )
    return write_corners([found])


_scan, _scan_backward = backend_operator('coupled_scan', 'coupled_scan', like_x)
differentiate_again(_scan_backward, coupled_scan_reference)
