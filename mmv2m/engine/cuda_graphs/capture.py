"""Capturing a module's forward and backward pass, and running the two graphs."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ['Capture']


class Capture:
    """Two CUDA graphs of a module: of its forward pass, and of its backward pass.

    The graphs are PyTorch's (:func:`torch.cuda.make_graphed_callables`). They read the module's
    parameters and buffers where these lie, so that an optimizer's step or ``load_state_dict`` takes
    effect; a parameter whose memory was replaced is copied in every pass. They write their outputs
    and gradients to the same memory in every pass. Here both are copied, so that nobody finds a
    tensor of one pass overwritten by the next.

    Args:
        module: The module.
        forward: Its forward pass, which takes one tensor and returns a tensor or a tuple of them.
        x: An input of the layout that all later ones have.

    Raises:
        RuntimeError: If PyTorch or the driver refuses; also of other types.
    """

    def __init__(self, module: nn.Module, forward: Callable[[Tensor], Any], x: Tensor) -> None:
        self.parameters = list(module.parameters())
        self._passes = 0
        self._waiting: weakref.ref | None = None
        # Parameters of its own that share memory with the module's: those may have nodes in the
        # graph of an earlier pass, which belong to a stream that is not captured.
        aliases = [nn.Parameter(p.detach(), p.requires_grad) for p in self.parameters]
        names = [f'module.{name}' for name, _ in module.named_parameters()]
        inner = _Forward(module, forward)

        def function(x: Tensor, *parameters: Tensor) -> Any:
            outputs = functional_call(inner, dict(zip(names, parameters, strict=True)), (x,))
            if not isinstance(outputs, Tensor | tuple | list):
                raise TypeError(f'it returns a {type(outputs).__name__}, not tensors')
            return outputs

        sample = x.detach().clone().requires_grad_(x.requires_grad)
        with (
            _left_as_found(module, x.device),
            _without_autocast_cache(x.device),
            _without_stream_warnings(),
        ):
            self._run: Callable[..., Any] = torch.cuda.make_graphed_callables(
                function, (sample, *aliases), allow_unused_input=True
            )

    @property
    def is_waiting(self) -> bool:
        """Whether the last pass may still be differentiated, with what another would overwrite."""
        node = None if self._waiting is None else self._waiting()
        return node is not None

    def __call__(self, x: Tensor) -> Any:
        """Run the forward pass; autograd runs the backward pass.

        Args:
            x: An input of the captured layout.

        Returns:
            New tensors, as the module's forward pass returns them.
        """
        outputs = self._run(x, *self.parameters)
        self._passes += 1
        node: Any = (outputs if isinstance(outputs, Tensor) else outputs[0]).grad_fn
        node.register_prehook(_Check(self, self._passes))
        node.register_hook(_copy_gradients)
        self._waiting = weakref.ref(node)
        if isinstance(outputs, Tensor):
            return outputs.clone()
        return type(outputs)(output.clone() for output in outputs)


class _Forward(nn.Module):
    """A module's forward pass without the hooks on the module itself."""

    def __init__(self, module: nn.Module, forward: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.module = module
        self._pass = forward

    def forward(self, x: Tensor) -> Any:
        return self._pass(x)


class _Check:
    """In front of a backward pass: is what the forward pass kept still there?"""

    def __init__(self, capture: Capture, number: int) -> None:
        self.capture, self.number = capture, number

    def __call__(self, grads: tuple[Tensor, ...]) -> None:
        if self.capture._passes != self.number:
            raise RuntimeError(
                'a backward pass comes after another forward pass through the same CUDA graph, '
                'which has overwritten what it needs; remove CUDAGraphHook from custom_hooks'
            )
        self.capture._waiting = None


def _copy_gradients(
    gradients: tuple[Tensor | None, ...], _: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """Gradients in memory of their own: autograd hands these out as ``.grad``."""
    copies = iter(torch._foreach_mul([g for g in gradients if g is not None], 1))
    return tuple(None if g is None else next(copies) for g in gradients)


@contextmanager
def _left_as_found(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Put buffers and generators back: warming up runs the module a few times.

    A capture that fails leaves PyTorch in the middle of it: on the stream of the capture, and with
    a generator that waits for the capture's end.
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
    """Have autocast cast every weight where it is used: a cached cast is no part of the graph.

    A weight that is used twice then has its gradients summed in its own dtype, not in autocast's.
    """
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, torch.get_autocast_dtype(device.type), cache_enabled=False):
        yield


@contextmanager
def _without_stream_warnings() -> Iterator[None]:
    """Warming up and capturing go on two streams, of which PyTorch would warn the user."""
    warn = getattr(torch.autograd.graph, 'set_warn_on_accumulate_grad_stream_mismatch', None)
    if warn is None:
        yield
        return
    warn(False)
    try:
        yield
    finally:
        warn(True)
