"""The kernels of which operators are composed, from the first kernel set that supports a call."""

from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..directions import Direction
from ..ssm_tensors import SSMTensors
from .conv_targets import NEW, ConvGradients, ConvTargets
from .projections import Projected
from .scan_inputs import ScanInputs

__all__ = ['Kernels']


class Kernels:
    """Kernel sets, the first of which that supports a call runs it.

    A kernel set is a module with some of the functions below. Each function launches kernels and
    returns new tensors. For arguments that its kernels do not support, it returns
    ``NotImplemented`` before it has launched anything. The last set supports all arguments that
    operators pass on. The functions marked as optional may be missing in all sets.

    - ``convs_forward(x, gate, weight, bias, directions)`` returns y. ``convs_backward(grad_y, x,
      gate, weight, bias, directions, targets, projected)`` is described at :meth:`convs_backward`.
      ``adds_projected_gradient(x, x_proj)`` says whether it supports ``projected``.
    - ``project(x, weight, dt_weight, dt_bias, states)`` returns :class:`.projections.Projected`.
      ``project_backward(grad_x, grad_delta, grad_sides, x, low_rank, weight, dt_weight, adds)``
      returns its gradients. ``expand(low_rank, dt_weight, dt_bias)`` returns only the time steps.
    - ``convs_project`` (optional) does the work of ``convs_forward`` and ``project``; see
      :meth:`convs_project`.
    - ``scans_forward(inputs, sums, dtype, add_to)`` and ``scans_backward(grad_y, inputs, sums)``
      are described at the methods. A set may refuse scans with a gate.
    - ``ssm_at_once`` (optional) does the work of ``convs_project`` and ``scans_forward``; see
      :meth:`ssm_at_once`.
    - ``coupled_scans_forward`` and ``coupled_scans_backward`` (optional) are described in
      :mod:`.coupled`.
    - ``gate_forward(x, z)`` returns ``x * silu(z)``. ``gate_backward(grad_y, x, z, target, again)``
      returns its gradients, and the gated map if ``again`` is set.
    - ``norm_rows`` and ``norm_gradients`` are described in :mod:`.norms`, and ``gelu_forward``,
      ``gelu_gradients`` and ``column_sums`` in :mod:`.gelu`.
    - ``sum_rows(partial sums)`` returns the sums over the first axis of each, in a fixed order.

    Args:
        *sets: The kernel sets, the fastest first.
    """

    def __init__(self, *sets: ModuleType) -> None:
        self.sets = sets
        for name in {name for kernels in sets for name in kernels.__all__}:
            if not hasattr(type(self), name):
                have = [getattr(kernels, name) for kernels in sets if hasattr(kernels, name)]
                setattr(self, name, have[0] if len(have) == 1 else partial(self._first, name))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def _first(self, name: str, *args: Any, **options: Any) -> Any:
        """Call a function of the first set that supports the call, or return ``NotImplemented``."""
        for kernels in self.sets:
            function = getattr(kernels, name, None)
            result = NotImplemented if function is None else function(*args, **options)
            if result is not NotImplemented:
                return result
        return NotImplemented

    def convs_project(
        self,
        x: Tensor,
        gate: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        directions: Sequence[Direction],
        x_proj: Tensor,
        dt_proj: Tensor,
        dt_bias: Tensor,
        states: int,
    ) -> tuple[Tensor, Projected]:
        """Convolve a map in several directions, and project the tokens of the results.

        Args:
            x: (B, H, W, E), the same for all directions, or (K, B, H, W, E).
            gate: (B, H, W, E), whose SiLU multiplies ``x``, or None.
            weight: (E, taps), float32.
            bias: (E,), float32, or None.
            directions: K directions.
            x_proj: (R + sides * N, E).
            dt_proj: (E, R).
            dt_bias: (E,), float32.
            states: N.

        Returns:
            The convolved map, (K, B, H, W, E), and its projection.
        """
        conv, projection = (x, gate, weight, bias, directions), (x_proj, dt_proj, dt_bias, states)
        result = self._first('convs_project', *conv, *projection)
        if result is NotImplemented:
            y = self._first('convs_forward', *conv)
            return y, self._first('project', y, *projection)
        return result

    def ssm_at_once(
        self,
        given: SSMTensors,
        directions: Sequence[Direction],
        projects: str,
        reduction: str,
        log_A: bool,
        add_to: Tensor | None,
        keeps: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Convolve, project and scan a map in one kernel, which writes only the output.

        Args:
            given: See :class:`mmv2m.ops.ssm_tensors.SSMTensors`.
            directions: K directions.
            projects: See :func:`mmv2m.ops.directional_ssm`.
            reduction: See :func:`mmv2m.ops.directional_ssm`.
            log_A: See :func:`mmv2m.ops.directional_ssm`.
            add_to: A map to which the sum over directions is added, in place, and which is
                returned; or None.
            keeps: Whether low-rank time steps and sides are wanted.

        Returns:
            The output; low-rank time steps, (K, B, H, W, R), in the dtype of ``x``; and the side,
            (K, B, H, W, 1), in float32. The last two are empty if they are not wanted.
            ``NotImplemented`` if separate kernels are needed.
        """
        return self._first(
            'ssm_at_once', given, directions, projects, reduction, log_A, add_to, keeps
        )

    def convs_backward(
        self,
        grad_y: Tensor,
        x: Tensor,
        gate: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        directions: Sequence[Direction],
        targets: ConvTargets = NEW,
        **projected: Any,
    ) -> ConvGradients:
        """Compute the gradients of ``convs_forward``.

        Args:
            grad_y: (K, B, H, W, E).
            x: See :meth:`convs_project`.
            gate: See :meth:`convs_project`.
            weight: See :meth:`convs_project`.
            bias: See :meth:`convs_project`.
            directions: See :meth:`convs_project`.
            targets: Tensors to which the gradients of ``x`` and ``gate`` are written or added.
            **projected: The part of ``grad_y`` that comes from a projection of the outputs, if
                ``adds_projected_gradient``.

        Raises:
            ValueError: If a target is not like its gradient, or there is no gradient.
        """
        given = (grad_y, x, gate, weight, bias, directions)
        if targets.fit_kernels(x, gate):
            result = self._first('convs_backward', *given, targets, **projected)
            if result is not NotImplemented:
                return result
        return targets.receive(self._first('convs_backward', *given, NEW, **projected))

    def scans_forward(
        self,
        inputs: ScanInputs,
        sums: bool = False,
        dtype: torch.dtype | None = None,
        add_to: Tensor | None = None,
    ) -> Tensor:
        """Scan in several directions.

        Args:
            inputs: See :class:`.scan_inputs.ScanInputs`.
            sums: Whether to return the sum over directions instead of each output.
            dtype: Dtype of the result. Defaults to the dtype of ``x``.
            add_to: A contiguous map like the result, to which the sum is added in place before the
                gate, and which is returned; or None.

        Returns:
            (K, B, H, W, E), or (B, H, W, E) if ``sums``.

        Raises:
            ValueError: If ``add_to`` is not like the sum, or there is no sum.
        """
        y = self._first('scans_forward', inputs, sums, dtype, add_to)
        if y is not NotImplemented:
            return y
        # In front of the gate, values may be too large for half precision.
        dtype = torch.float32 if add_to is None else None
        ungated = self._first('scans_forward', inputs.with_gate(None), sums, dtype, add_to)
        gated = self._first('gate_forward', ungated if sums else ungated[0], inputs.z)
        if add_to is not None:
            return add_to.copy_(gated)
        return gated if sums else gated[None]

    def scans_backward(
        self, grad_y: Tensor, inputs: ScanInputs, sums: bool = False
    ) -> dict[str, Tensor | None]:
        """Compute the gradients of :meth:`scans_forward`.

        Args:
            grad_y: Gradient of its result.
            inputs: See :meth:`scans_forward`.
            sums: See :meth:`scans_forward`.

        Returns:
            Gradients by the names of :class:`.scan_inputs.ScanInputs`. The gradient of ``delta`` is
            always taken before bias and softplus, (K, B, H, W, E), in the dtype of ``x``. All
            gradients except those of ``x``, ``delta`` and ``z`` are partial sums in float32, which
            are still to be summed over their first axis.
        """
        gradients = self._first('scans_backward', grad_y, inputs, sums)
        if gradients is not NotImplemented:
            return gradients
        assert inputs.z is not None
        ungated = inputs.with_gate(None)
        y = self._first('scans_forward', ungated, False, torch.float32, None)[0]
        of_y, of_z, _ = self._first('gate_backward', grad_y[0], y, inputs.z)
        return {**self._first('scans_backward', of_y[None], ungated, False), 'z': of_z}
