"""Stand-ins for the compiled extensions: both passes of the scan, for code with its own autograd.

They return contiguous tensors, as the extensions do, because their callers pass the addresses to
kernels of their own.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..directional_scan import directional_scan, scan_gradients
from ..precision import state_dtype
from ..selective_scan import ScanGroup, join_channels, scan_groups

__all__ = ['bwd', 'bwd_oflex', 'fwd', 'fwd_oflex']


def fwd(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> list[Tensor]:
    """Stand in for ``selective_scan_cuda.fwd``.

    Returns:
        The output in front of the gate; kept states; and, if there is a gate, the output behind it.
        The gradient here needs no states, so they are NaN.
    """
    with torch.no_grad():
        groups = scan_groups(u, delta, A, B, C, D, None, delta_bias)
        outputs = [directional_scan(*g, delta_softplus=bool(delta_softplus)) for g in groups]
        y = join_channels(outputs).contiguous()
        kept = y.new_full((*u.shape[:2], 1, 2 * A.shape[1]), torch.nan, dtype=state_dtype(u))
        return [y, kept] if z is None else [y, kept, y * F.silu(z)]


def bwd(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    dout: Tensor,
    x: Tensor | None,
    out: Tensor | None,
    dz: Tensor | None,
    delta_softplus: bool,
    recompute_out_z: bool,
) -> list[Tensor | None]:
    """Stand in for ``selective_scan_cuda.bwd``.

    Returns:
        Gradients of ``u, delta, A, B, C, D, delta_bias``. If there is a gate, also the gradient of
        ``z``, which is written to ``dz`` if that is given, and, if ``recompute_out_z``, the output
        behind the gate.
    """
    with torch.no_grad():
        groups = scan_groups(u, delta, A, B, C, D, z, delta_bias)
        of = _gradients(groups, B, C, dout.to(u.dtype), bool(delta_softplus))
        grads = [of[name] for name in ('u', 'delta', 'A', 'B', 'C', 'D', 'delta_bias')]
        if z is None:
            return grads
        of_z = of['z']
        assert of_z is not None
        grads.append(of_z if dz is None else dz.copy_(of_z))
        if recompute_out_z:
            assert out is not None
            grads.append(out * F.silu(z))
        return grads


def fwd_oflex(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    nrows: int = 1,
    out_float: bool = False,
) -> list[Tensor]:
    """Stand in for ``selective_scan_cuda_oflex.fwd`` and ``selective_scan_cuda_core.fwd``.

    The latter has no ``out_float``. ``nrows`` says how the extension divides its work, and has no
    effect here. With ``out_float``, the output is float32, but has been rounded to the dtype of
    ``u``.
    """
    y, kept = fwd(u, delta, A, B, C, D, None, delta_bias, delta_softplus)
    return [y.float() if out_float else y, kept]


def bwd_oflex(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    dout: Tensor,
    x: Tensor | None,
    delta_softplus: bool,
    nrows: int = 1,
) -> list[Tensor | None]:
    """Stand in for ``selective_scan_cuda_oflex.bwd`` and ``selective_scan_cuda_core.bwd``."""
    none = (None, None, None)
    return bwd(u, delta, A, B, C, D, None, delta_bias, dout, *none, delta_softplus, False)


def _gradients(
    groups: Sequence[ScanGroup], B: Tensor, C: Tensor, dout: Tensor, delta_softplus: bool
) -> dict[str, Tensor | None]:
    """Compute gradients of all groups, and join them to the shapes of the arguments, by name."""
    dy = dout.transpose(1, 2)[:, None].chunk(len(groups), -1)
    found = [
        scan_gradients(grad, *group, delta_softplus) for grad, group in zip(dy, groups, strict=True)
    ]
    x, step, rates, b, c, skip, gate, bias = zip(*found, strict=True)
    return dict(
        u=join_channels(x).contiguous(),
        delta=join_channels(step).contiguous(),
        A=torch.cat(rates),
        B=_join_sides(b, B),
        C=_join_sides(c, C),
        D=None if groups[0].D is None else torch.cat(skip),
        z=None if groups[0].z is None else join_channels(gate).contiguous(),
        delta_bias=None if groups[0].delta_bias is None else torch.cat(bias),
    )


def _join_sides(grads: tuple[Tensor, ...], like: Tensor) -> Tensor:
    """Join the groups' gradients of B or C to its shape."""
    if like.dim() == 2:
        return torch.cat(grads)
    return torch.stack([g[:, 0].transpose(1, 2) for g in grads], 1).view(like.shape)
