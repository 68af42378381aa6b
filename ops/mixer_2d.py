"""The public operator that is a whole mixer: its two projections, and the 2D SSM between them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from .backends import BACKENDS, choose_backend
from .channel_norm import channel_norm
from .checks import MapLike, check_map, check_parameters, check_weight
from .gated_linear import gated_linear
from .halves import Halves, pack_groups
from .library_mixer import mixer_2d_inference_op, mixer_2d_op
from .operator import needs_gradient
from .precision import like_products
from .products import project
from .reference import state_dtype
from .ssm_2d import check_groups, exact_groups, ssm_2d

__all__ = ['ScanNorm', 'mixer_2d']


class ScanNorm(NamedTuple):
    """A LayerNorm on the sum of scans.

    Attributes:
        weight: (E,).
        bias: (E,).
        eps: Added to the variance.
    """

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5


def mixer_2d(
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    groups: Sequence[Halves],
    norm: ScanNorm | None = None,
    backend: str = 'auto',
    log_A: bool = False,
) -> Tensor:
    """A V2M mixer: ``linear(ssm_2d(u, z) * SiLU(z), out_weight)`` (V2M, Eq. 15).

    Of ``u, z = linear(x, in_weight)``. That is, between two linear layers, :func:`ssm_2d` summed
    over all routes, and a gate; or, without any gate, a norm on the sum (as in VMamba).

    A backend that fuses these leaves the gradients of u and z in one map, where the first
    projection's are made from it: neither are they joined by a copy, nor are the gate's two
    gradients added up in a pass of their own. Where no gradient is asked for, the last scan gates
    the sum that it leaves.

    Args:
        x: (B, H, W, D); under autocast, read as products are.
        in_weight: (2 E, D), or (E, D) with a norm; used in the dtype of ``x``, like the other.
        out_weight: (D', E).
        groups: See :func:`ssm_2d`.
        norm: Takes the gate's place.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        log_A: See :func:`ssm_2d`.

    Returns:
        (B, H, W, D') in the dtype of ``x``, or in autocast's.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, a direction or the number of groups is wrong.
        RuntimeError: If the backend asked for cannot run; says why.
    """
    check_map('x', x)
    x = like_products(x)
    _check_mixer(x, in_weight, out_weight, groups, norm)
    backend = choose_backend(backend, x)
    chosen = BACKENDS[backend]
    fused = chosen.ssm_2d_forward, chosen.gate_forward if norm is None else chosen.norm_forward
    if None in fused:
        return _step_by_step(x, in_weight, out_weight, groups, norm, backend, log_A)
    norm_tensors: list[Tensor | None] = [None, None]
    if norm is not None:
        norm_tensors = [p.to(state_dtype(x)) for p in (norm.weight, norm.bias)]
    parameters = pack_groups(exact_groups(groups, x))
    tensors = (x, in_weight, out_weight, *norm_tensors)
    trains = needs_gradient((*tensors, *parameters[0]))
    run = mixer_2d_op if trains else mixer_2d_inference_op
    y = run(*tensors, *parameters, 0.0 if norm is None else norm.eps, log_A, backend)
    return y[0] if trains else y


def _check_mixer(
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    groups: Sequence[Halves],
    norm: ScanNorm | None,
) -> None:
    check_weight(in_weight, x, 'in_weight')
    inner = in_weight.shape[0]
    if norm is None:
        if inner % 2:
            raise ValueError(f'in_weight must make a map and its gate, but makes {inner} channels')
        inner //= 2
    scanned = MapLike((*x.shape[:-1], inner), x.dtype, x.device)
    check_groups(scanned, norm is None, groups, 'sum')
    check_weight(out_weight, scanned, 'out_weight')
    if norm is not None:
        expected = ("the norm's weight", norm.weight), ("the norm's bias", norm.bias)
        check_parameters(((*one, (inner,)) for one in expected), scanned)


def _step_by_step(
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    groups: Sequence[Halves],
    norm: ScanNorm | None,
    backend: str,
    log_A: bool,
) -> Tensor:
    """On a backend that does not fuse it."""
    mixed = project(x, in_weight)
    if norm is not None:
        y = ssm_2d(mixed, None, groups, 'sum', backend, log_A)
        y = channel_norm(y, norm.weight, norm.bias, norm.eps, backend=backend)
        return project(y, out_weight)
    inner, gate = mixed.chunk(2, -1)
    y = ssm_2d(inner, gate, groups, 'sum', backend, log_A)
    return gated_linear(y, gate, out_weight, backend)
