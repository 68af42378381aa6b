"""Capturing a module's forward and backward pass, and running the two graphs."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

__all__ = ['Capture']

WARM_UPS = 2
"""Passes before the capture, on a stream of their own. PyTorch requires them."""


class Capture:
    """Two CUDA graphs of a module, one of its forward pass and one of its backward pass.

    The graphs read the module's parameters and buffers in their own memory, so that an optimizer's
    step or ``load_state_dict`` takes effect. They write outputs and gradients to the same memory in
    every pass. This class copies both, so that the next pass overwrites no tensor of this one.

    :func:`torch.cuda.make_graphed_callables` does the same, but looks through all parameters in
    Python three times in a step. With 600 parameters this takes a slow host 6 ms.

    Args:
        module: The module.
        forward: The module's forward pass. It takes one tensor and returns a tensor or a sequence
            of tensors.
        x: An input. All later inputs need the same layout.

    Raises:
        TypeError: If the module returns anything but tensors.
        RuntimeError: If PyTorch or the driver refuses to capture the module.
    """

    def __init__(self, module: nn.Module, forward: Callable[[Tensor], Any], x: Tensor) -> None:
        self.parameters = list(module.parameters())
        self._passes = 0
        self._waiting: weakref.ref | None = None
        # The capture has parameters of its own, which share memory with the module's. The module's
        # may have nodes in the autograd graph of an earlier pass, and these belong to a stream that
        # is not captured.
        aliases = [nn.Parameter(p.detach(), p.requires_grad) for p in self.parameters]
        names = [f'module.{name}' for name, _ in module.named_parameters()]
        inner = _Forward(module, forward)
        self._x = x.detach().clone().requires_grad_(x.requires_grad)

        def run() -> Any:
            return functional_call(inner, dict(zip(names, aliases, strict=True)), (self._x,))

        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with _left_as_found(module, x.device), _without_autocast_cache(x.device):
            self._capture(run, [self._x, *aliases])

    def _capture(self, run: Callable[[], Any], inputs: Sequence[Tensor]) -> None:
        trained = [t for t in inputs if t.requires_grad]
        stream, pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                outputs = [o for o in _tensors(run()) if o.requires_grad]
                _gradients(outputs, trained, [torch.ones_like(o) for o in outputs])
            del outputs
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self._forward, pool=pool):
            returned = run()
        self._kind = Tensor if isinstance(returned, Tensor) else type(returned)
        self._outputs = _tensors(returned)
        outputs = [o for o in self._outputs if o.requires_grad]
        self._grad_outputs = [torch.empty_like(o) for o in outputs]
        with torch.cuda.graph(self._backward, pool=pool):
            found = iter(_gradients(outputs, trained, self._grad_outputs))
        every = [next(found) if t.requires_grad else None for t in inputs]
        self._gradients = [g for g in every if g is not None]
        self._has_gradient = [g is not None for g in every]
        # The CUDA graph contains their autograd graph now.
        self._differentiable = [o.requires_grad for o in self._outputs]
        self._outputs = [o.detach() for o in self._outputs]

    @property
    def is_waiting(self) -> bool:
        """Whether the last pass may still be differentiated. Another pass would prevent that."""
        return self._waiting is not None and self._waiting() is not None

    def __call__(self, x: Tensor) -> Any:
        """Run the forward pass. Autograd runs the backward pass later.

        Args:
            x: An input of the captured layout.

        Returns:
            New tensors, in the form that the module's forward pass returns.
        """
        outputs = _Pass.apply(self, x, *self.parameters)
        return outputs[0] if self._kind is Tensor else self._kind(outputs)

    def run_forward(self, node: Any, x: Tensor) -> tuple[Tensor, ...]:
        """Run the forward pass for a node of autograd's graph."""
        self._x.detach().copy_(x)
        self._forward.replay()
        self._passes += 1
        self._waiting = weakref.ref(node)
        outputs = tuple(o.clone() for o in self._outputs)
        pairs = zip(outputs, self._differentiable, strict=True)
        node.mark_non_differentiable(*(o for o, differentiable in pairs if not differentiable))
        node.number = self._passes
        return outputs

    def run_backward(self, number: int, grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Run the backward pass of a forward pass, given the gradients of its outputs.

        Raises:
            RuntimeError: If another forward pass has overwritten tensors that this one needs.
        """
        if number != self._passes:
            raise RuntimeError(
                'a backward pass comes after another forward pass through the same CUDA graph, '
                'which has overwritten what it needs; remove CUDAGraphHook from custom_hooks'
            )
        self._waiting = None
        pairs = zip(grads, self._differentiable, strict=True)
        given = [grad for grad, differentiable in pairs if differentiable]
        for target, grad in zip(self._grad_outputs, given, strict=True):
            if grad is None:
                target.zero_()
            else:
                target.copy_(grad)
        self._backward.replay()
        # Autograd hands these out as ``.grad``, so that they need memory of their own.
        copies = iter(torch._foreach_mul(self._gradients, 1))
        return [next(copies) if has else None for has in self._has_gradient]


class _Pass(torch.autograd.Function):
    """A pass through both CUDA graphs, as a node of the autograd graph."""

    @staticmethod
    def forward(ctx: Any, capture: Capture, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.capture = capture
        return capture.run_forward(ctx, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *ctx.capture.run_backward(ctx.number, grads)


class _Forward(nn.Module):
    """The forward pass of a module, without the hooks on the module itself."""

    def __init__(self, module: nn.Module, forward: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.module = module
        self._pass = forward

    def forward(self, x: Tensor) -> Any:
        return self._pass(x)


def _tensors(outputs: Any) -> list[Tensor]:
    outputs = [outputs] if isinstance(outputs, Tensor) else outputs
    if not isinstance(outputs, tuple | list) or not all(isinstance(o, Tensor) for o in outputs):
        raise TypeError(f'it returns a {type(outputs).__name__}, not tensors')
    return list(outputs)


def _gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(outputs, inputs, grads, allow_unused=True)


@contextmanager
def _left_as_found(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore buffers and generators afterwards, because warming up runs the module a few times.

    A capture that fails leaves PyTorch on the stream of the capture, with a generator that waits
    for the end of the capture. Both are restored too.
    """
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    generator = torch.cuda.default_generators[device.index]
    state = generator.clone_state()
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
        try:
            with torch.random.fork_rng([]):
                yield
            generator.set_state(state.get_state())
        except Exception:
            generator.graphsafe_set_state(state)
            raise
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


@contextmanager
def _without_autocast_cache(device: torch.device) -> Iterator[None]:
    """Let autocast cast every weight where it is used, because the graph has no cached casts.

    The gradients of a weight that is used twice are then summed in its own dtype, not autocast's.
    """
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, torch.get_autocast_dtype(device.type), cache_enabled=False):
        yield
