"""The kernels that operators are put together from: of each kind the first that takes a call."""

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
    """Kernel sets, of which the first that takes a call runs it.

    A kernel set is a module with some of the functions below. Each launches kernels and returns new
    tensors; it returns ``NotImplemented`` for arguments that its kernels do not take, before it has
    launched anything. The last set takes whatever the operators pass on.

    - ``convs_forward(x, gate, weight, bias, directions)`` returns y; ``convs_backward(grad_y, x,
      gate, weight, bias, directions, targets, projected)``, see :meth:`convs_backward`;
      ``adds_projected_gradient(x, x_proj)`` says whether that takes ``projected``.
    - ``project(x, weight, dt_weight, dt_bias, states)`` returns :class:`.projections.Projected`,
      and ``project_backward(grad_x, grad_delta, grad_sides, x, low_rank, weight, dt_weight, adds)``
      its gradients; ``expand(low_rank, dt_weight, dt_bias)`` the time steps alone.
      ``convs_project``, see :meth:`convs_project`, does both at once; no set needs it.
    - ``scans_forward(inputs, sums, dtype, add_to)`` and ``scans_backward(grad_y, inputs, sums)``,
      see the methods; a set may refuse scans with a gate.
    - ``ssm_at_once``, see :meth:`ssm_at_once`, does the work of ``convs_project`` and
      ``scans_forward``; no set needs it.
    - ``coupled_scans_forward`` and ``coupled_scans_backward``, see :mod:`.coupled`; no set needs
      them.
    - ``gate_forward(x, z)`` returns ``x * silu(z)``, ``gate_backward(grad_y, x, z, target, again)``
      its gradients, and the gated map if ``again``.
    - ``norm_rows`` and ``norm_gradients``, see :mod:`.norms`; ``gelu_forward``, ``gelu_gradients``
      and ``column_sums``, see :mod:`.gelu`.
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
        """What the first set that takes a call returns; ``NotImplemented`` if none does."""
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
        """Convolve a map in several directions, and project the tokens of all these.

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
        """Convolve, project and scan a map, all of which but the output stays inside a kernel.

        Args:
            given: See :class:`mmv2m.ops.ssm_tensors.SSMTensors`.
            directions: K directions.
            projects: See :func:`mmv2m.ops.directional_ssm`.
            reduction: See :func:`mmv2m.ops.directional_ssm`.
            log_A: See :func:`mmv2m.ops.directional_ssm`.
            add_to: What the sum over directions is added to, in place, and returned; or None.
            keeps: Whether low-rank time steps and sides are wanted.

        Returns:
            The output; low-rank time steps (K, B, H, W, R) in the dtype of ``x`` and the side
            (K, B, H, W, 1) in float32, both empty if not wanted. ``NotImplemented`` where separate
            kernels are needed.
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
        """Gradients of ``convs_forward``.

        Args:
            grad_y: (K, B, H, W, E).
            x: See :meth:`convs_project`.
            gate: See :meth:`convs_project`.
            weight: See :meth:`convs_project`.
            bias: See :meth:`convs_project`.
            directions: See :meth:`convs_project`.
            targets: What the gradients of ``x`` and ``gate`` are written or added to.
            **projected: What ``grad_y`` gets from a projection of the outputs.

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
            sums: Return the sum over directions instead of each output.
            dtype: Of the result; by default that of ``x``.
            add_to: What the sum is added to in place, before it goes through the gate, and
                returned: like the result, contiguous; or None.

        Returns:
            (K, B, H, W, E), or (B, H, W, E) if ``sums``.

        Raises:
            ValueError: If ``add_to`` is not like the sum, or there is none.
        """
        y = self._first('scans_forward', inputs, sums, dtype, add_to)
        if y is not NotImplemented:
            return y
        # What the gate brings back into half precision's range may be outside before.
        dtype = torch.float32 if add_to is None else None
        ungated = self._first('scans_forward', inputs.with_gate(None), sums, dtype, add_to)
        gated = self._first('gate_forward', ungated if sums else ungated[0], inputs.z)
        if add_to is not None:
            return add_to.copy_(gated)
        return gated if sums else gated[None]

    def scans_backward(
        self, grad_y: Tensor, inputs: ScanInputs, sums: bool = False
    ) -> dict[str, Tensor | None]:
        """Gradients of :meth:`scans_forward`.

        Args:
            grad_y: Like its result.
            inputs: Its arguments.
            sums: See :meth:`scans_forward`.

        Returns:
            Gradients by the names of :class:`.scan_inputs.ScanInputs`; that of ``delta`` is always
            (K, B, H, W, E), before bias and softplus, in the dtype of ``x``. All but those of
            ``x``, ``delta`` and ``z`` are partial sums in float32, still to be summed over their
            first axis.
        """
        gradients = self._first('scans_backward', grad_y, inputs, sums)
        if gradients is not NotImplemented:
            return gradients
        assert inputs.z is not None
        ungated = inputs.with_gate(None)
        y = self._first('scans_forward', ungated, False, torch.float32, None)[0]
        of_y, of_z, _ = self._first('gate_backward', grad_y[0], y, inputs.z)
        return {**self._first('scans_backward', of_y[None], ungated, False), 'z': of_z}
