"""The public operator between a mixer's two projections, and the second one of these."""

from collections.abc import Sequence

from torch import Tensor

from .backends import BACKENDS, choose_backend
from .checks import check_map, check_weight
from .gated_linear import gated_linear
from .halves import Halves, pack_groups
from .library_2d import mixer_2d_inference_op, mixer_2d_op
from .operator import needs_gradient
from .ssm_2d import check_groups, exact_groups, ssm_2d

__all__ = ['mixer_2d']


def mixer_2d(
    xz: Tensor,
    weight: Tensor,
    groups: Sequence[Halves],
    backend: str = 'auto',
    log_A: bool = False,
) -> Tensor:
    """``linear(ssm_2d(x, z) * SiLU(z), weight)`` of a map's halves, x and its gate (V2M, Eq. 15).

    That is :func:`ssm_2d`, summed, and :func:`gated_linear`. A backend that fuses these leaves the
    gradients of both halves in one map, where the projection in front of the operator reads them:
    neither are they joined by a copy, nor are the gate's two gradients added up in a pass of their
    own. Where no gradient is asked for, the last scan gates the sum that it leaves.

    Args:
        xz: (B, H, W, 2 E): x, and behind it the gate z.
        weight: (D, E); used in the dtype of ``xz``.
        groups: See :func:`ssm_2d`.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        log_A: See :func:`ssm_2d`.

    Returns:
        (B, H, W, D) in the dtype of ``xz``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, a direction or the number of groups is wrong.
        RuntimeError: If the backend asked for cannot run; says why.
    """
    check_map('xz', xz)
    if xz.shape[-1] % 2:
        raise ValueError(f'xz must be a map and its gate, but has {xz.shape[-1]} channels')
    x, z = xz.chunk(2, -1)
    check_groups(x, z, groups, 'sum')
    check_weight(weight, x)
    backend = choose_backend(backend, x)
    chosen = BACKENDS[backend]
    if chosen.ssm_2d_forward is None or chosen.gate_forward is None:
        y = ssm_2d(x, z, groups, 'sum', backend, log_A)
        return gated_linear(y, z, weight, backend)
    parameters = pack_groups(exact_groups(groups, x))
    arguments = (xz, weight.to(xz.dtype), *parameters, log_A, backend)
    if needs_gradient((xz, weight, *parameters[0])):
        return mixer_2d_op(*arguments)[0]
    return mixer_2d_inference_op(*arguments)
