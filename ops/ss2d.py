"""V2M's mixer as one operator: two linear layers, and the 2D SSM between them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .backends import BACKENDS, choose_backend, has
from .channel_norm import channel_norm
from .checks import MapLike, check_floating, check_map, check_parameters, check_weight
from .corner_ssm import check_groups, corner_ssm, exact_groups, like_results
from .gated_linear import gated_linear
from .groups import Group, pack_groups
from .operator import (
    differentiate_from_kept,
    like_inputs_not_kept,
    needs_gradient,
    operator,
    present,
)
from .precision import like_products, state_dtype
from .products import (
    cast_weights,
    casts_like,
    input_gradient,
    project,
    project_backward,
    projected_like,
    recall_weights,
    weight_gradient,
)

__all__ = ['ScanNorm', 'ss2d']


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


def ss2d(
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    groups: Sequence[Group],
    norm: ScanNorm | None = None,
    backend: str = 'auto',
    log_A: bool = False,
) -> Tensor:
    """Compute V2M's mixer, ``linear(corner_ssm(u, z) * SiLU(z), out_weight)`` (V2M, Eq. 15).

    Here, ``u, z = linear(x, in_weight)``, and :func:`corner_ssm` is summed over all corners. With a
    norm, there is no gate ``z``, and the norm is applied to the sum, as in VMamba.

    A backend that fuses the steps writes the gradients of u and z to one map, from which it
    computes the gradients of the first projection. So they are not joined by a copy, and the two
    gradients of the gate are not added up in a pass of their own. If no gradient is needed, the
    last scan applies the gate to its sum.

    Args:
        x: (B, H, W, D). Under autocast, it is read in autocast's dtype.
        in_weight: (2 E, D), or (E, D) with a norm. Both weights are cast to the dtype of ``x``.
        out_weight: (D', E).
        groups: See :func:`corner_ssm`.
        norm: A norm that replaces the gate.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        log_A: See :func:`corner_ssm`.

    Returns:
        (B, H, W, D') in the dtype of ``x``, or in autocast's dtype.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, or the number of groups or corners is wrong.
        RuntimeError: If the backend asked for cannot run. The message says why.
    """
    check_map('x', x)
    x = like_products(x)
    _check_mixer(x, in_weight, out_weight, groups, norm)
    backend = choose_backend(backend, x)
    if not has(backend, 'corner_ssm_forward', 'norm_forward' if norm else 'gate_forward'):
        return _compose(x, in_weight, out_weight, groups, norm, backend, log_A)
    norm_tensors: list[Tensor | None] = [None, None]
    if norm is not None:
        norm_tensors = [p.to(state_dtype(x)) for p in (norm.weight, norm.bias)]
    parameters, corners = pack_groups(exact_groups(groups, x))
    tensors = (x, in_weight, out_weight, *norm_tensors)
    options = (corners, norm.eps if norm else 0.0, log_A, backend)
    if needs_gradient((*tensors, *parameters)):
        return _ss2d(*tensors, parameters, *options)[0]
    return _ss2d_inference(*tensors, parameters, *options)


def _check_mixer(
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    groups: Sequence[Group],
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
        for name, value in expected:
            check_floating(name, value)
        check_parameters(((*one, (inner,)) for one in expected), scanned)


def _like_kept(*args: Any) -> list[Tensor]:
    x, in_weight, out_weight, norm_weight, _, parameters, corners, *_ = args
    mixed = projected_like(x, in_weight)
    inner, _ = _split(mixed, norm_weight)
    y, *kept = like_results(inner, None, parameters, corners, 'sum')
    kept = kept if norm_weight is None else [torch.empty_like(y), *kept]
    casts = casts_like((in_weight, out_weight), x)
    return [projected_like(x, out_weight), mixed, y, *kept, *casts]


def _split(mixed: Tensor, norm_weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Split the first projection into a map and its gate; a mixer with a norm has no gate."""
    if norm_weight is not None:
        return mixed, None
    inner, gate = mixed.chunk(2, -1)
    return inner, gate


@operator('ss2d', _like_kept)
def _ss2d(*args: Any) -> list[Tensor]:
    """Compute the result and the tensors that are kept for the backward pass.

    Those are the first projection of ``x``, the sum of scans, the normalised sum if there is a
    norm, what is kept of each group, and casts of the weights.
    """
    x, in_weight, out_weight, norm_weight, norm_bias, parameters, corners, *rest = args
    eps, log_A, backend = rest
    (in_cast, out_cast), casts = cast_weights((in_weight, out_weight), x)
    mixed = project(x, in_cast)
    inner, gate = _split(mixed, norm_weight)
    chosen = BACKENDS[backend]
    y, *kept = chosen.corner_ssm_forward(inner, gate, parameters, corners, 'sum', log_A, True)
    if gate is None:
        ready = chosen.norm_forward(y, norm_weight, norm_bias, None, eps)
        kept.insert(0, ready)
    else:
        ready = chosen.gate_forward(y, gate)
    return [project(ready, out_cast), mixed, y, *kept, *casts]


@operator('ss2d_inference', lambda x, in_weight, out_weight, *args: projected_like(x, out_weight))
def _ss2d_inference(*args: Any) -> Tensor:
    """Compute the result alone, where the last scan applies the gate to its sum."""
    x, in_weight, out_weight, norm_weight, norm_bias, parameters, corners, *rest = args
    eps, log_A, backend = rest
    inner, gate = _split(project(x, in_weight), norm_weight)
    chosen = BACKENDS[backend]
    (y,) = chosen.corner_ssm_forward(inner, gate, parameters, corners, 'sum', log_A, False)
    if gate is None:
        y = chosen.norm_forward(y, norm_weight, norm_bias, None, eps)
    return project(y, out_weight)


@operator('ss2d_backward', like_inputs_not_kept)
def _ss2d_backward(grad_y: Tensor, kept: Sequence[Tensor], *args: Any) -> list[Tensor]:
    x, in_weight, out_weight, norm_weight, norm_bias, parameters, corners, *rest = args
    eps, log_A, backend = rest
    (in_cast, out_cast), (mixed, y, *kept) = recall_weights((in_weight, out_weight), x, kept)
    inner, gate = _split(mixed, norm_weight)
    grad: Tensor | None = input_gradient(grad_y, out_cast)
    of_norm: list[Tensor | None] = []
    chosen, options = BACKENDS[backend], (parameters, corners, 'sum', log_A)
    if gate is None:
        ready, *kept = kept
        grad_out = weight_gradient(grad_y, ready, out_weight.dtype)
        grad, *of_norm, _ = chosen.norm_backward(grad, y, norm_weight, norm_bias, None, eps)
        grad_mixed, _, *others = chosen.corner_ssm_backward(
            grad, kept, inner, None, *options, (None, None)
        )
        assert grad_mixed is not None
    else:
        grad_mixed = torch.empty_like(mixed)
        grad_inner, grad_gate = grad_mixed.chunk(2, -1)
        grad, _, gated = chosen.gate_backward(grad, y, gate, grad_gate, True)
        grad_out = weight_gradient(grad_y, gated, out_weight.dtype)
        del gated  # frees its memory before the scans' gradients, which need the most
        _, _, *others = chosen.corner_ssm_backward(
            grad, kept, inner, gate, *options, (grad_inner, grad_gate)
        )
    of_first = project_backward(grad_mixed, x, in_cast, in_weight.dtype)
    return present((*of_first, grad_out, *of_norm, *others))


differentiate_from_kept(_ss2d, _ss2d_backward)


def _compose(
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    groups: Sequence[Group],
    norm: ScanNorm | None,
    backend: str,
    log_A: bool,
) -> Tensor:
    """Run the steps as operators of their own."""
    mixed = project(x, in_weight)
    if norm is not None:
        y = corner_ssm(mixed, None, groups, 'sum', backend, log_A)
        y = channel_norm(y, norm.weight, norm.bias, norm.eps, backend=backend)
        return project(y, out_weight)
    inner, gate = mixed.chunk(2, -1)
    y = corner_ssm(inner, gate, groups, 'sum', backend, log_A)
    return gated_linear(y, gate, out_weight, backend)
