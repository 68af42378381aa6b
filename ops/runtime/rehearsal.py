"""Rehearsals of operators, which find and compile the kernels for all sizes of maps beforehand.

What a kernel is compiled for depends on dtypes and channels, for example, but hardly on the sizes
of maps. So when an operator first runs, it also runs on tensors without memory, of a few sizes that
stand for all. The kernels that it would launch, including those of its gradients, are compiled in
the background.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from .hardware import rehearsed_on
from .watch import rehearsing

__all__ = ['Gradients', 'compiling_ahead', 'rehearse', 'rehearsed']

SIZES = ((1, 7, 7), (1, 48, 48), (8, 256, 256), (1, 4, 4096), (1, 4096, 4))
"""Images, rows and columns of maps that are tried.

They have short lanes, long lanes, more tokens than a GPU can work on at once, and a few lanes that
are cut into segments along either axis.
"""

Gradients = Callable[[Sequence[Any], Any], None]
"""A function of an operator's arguments and results that runs its backward pass."""


def rehearsed(
    function: Callable[..., Any], gradients: Gradients | None = None
) -> Callable[..., Any]:
    """Make a function compile all its kernels in the background when it first runs on a GPU.

    Args:
        function: The function. Its arguments are tensors, numbers, strings, None and sequences of
            them. It must do nothing that depends on the numbers in a tensor.
        gradients: Function that runs its backward pass, or None.
    """
    seen: set[tuple] = set()

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        first = next(t for t in _tensors(args))
        if first.device.type == 'cuda':
            key = (first.device, *_describe(args, _sizes(args)))
            if key not in seen:
                seen.add(key)
                _compile_ahead(function, gradients, args, first.device)
        return function(*args)

    return run


def compiling_ahead(device: torch.device) -> Any:
    """A context in which this thread's operators start to compile their kernels, and launch none.

    Operators of the ``'cuda'`` backend return tensors of the right shapes with arbitrary numbers.
    The kernels of their gradients are compiled too, without a backward pass.

    Args:
        device: The GPU for which kernels are compiled.
    """
    return rehearsing(lambda call: call.compile_ahead(device))


def _compile_ahead(
    function: Callable[..., Any], gradients: Gradients | None, args: tuple, device: torch.device
) -> None:
    try:
        rehearse(function, gradients, args, device, lambda call: call.compile_ahead(device))
    except Exception:  # a failure costs only time: a real fault shows when the operator runs
        logging.getLogger('mmv2m').debug('%s cannot be rehearsed', function, exc_info=True)


def rehearse(
    function: Callable[..., Any],
    gradients: Gradients | None,
    args: Sequence[Any],
    device: torch.device,
    collect: Callable[[Any], None],
) -> None:
    """Collect the kernels that an operator would launch on a device for maps of any size.

    Args:
        function: The operator.
        gradients: Function that runs its backward pass, or None.
        args: The operator's arguments, on any device.
        device: The GPU.
        collect: Function that is called once for each kernel, first for those that the operator is
            about to launch.
    """
    seen: set[tuple] = set()

    def hear(call: Any) -> None:
        if call.key() not in seen:
            seen.add(call.key())
            collect(call)

    sizes = _sizes(args)
    with _disable_current_modes(), torch.no_grad(), rehearsed_on(device), rehearsing(hear):
        for others in (sizes,) if sizes is None else (sizes, *SIZES):
            imagined = _imagine(args, sizes, others)
            result = function(*imagined)
            if gradients is not None:
                gradients(imagined, result)


def _tensors(args: Sequence[Any]) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, tuple | list):
            yield from _tensors(arg)


def _sizes(args: Sequence[Any]) -> tuple[int, int, int] | None:
    """Images, rows and columns of the first map among some arguments, or None without a map."""
    found = next((t.shape[-4:-1] for t in _tensors(args) if t.dim() >= 4), None)
    return None if found is None else (found[0], found[1], found[2])


def _describe(args: Sequence[Any], sizes: tuple[int, int, int] | None) -> tuple:
    """Describe everything that determines the kernels, except the sizes of maps."""
    return tuple(
        _describe(arg, sizes)
        if isinstance(arg, tuple | list)
        else _describe_tensor(arg, sizes)
        if isinstance(arg, Tensor)
        else arg
        for arg in args
    )


def _describe_tensor(x: Tensor, sizes: tuple[int, int, int] | None) -> tuple:
    aligned = x.data_ptr() % 16
    if _is_map(x, sizes):
        return x.dtype, x.dim(), x.shape[-1], x.stride()[-2:], aligned
    return x.dtype, x.shape[1:], aligned


def _is_map(x: Tensor, sizes: tuple[int, int, int] | None) -> bool:
    return x.dim() >= 4 and tuple(x.shape[-4:-1]) == sizes


def _imagine(
    args: Sequence[Any], sizes: tuple[int, int, int] | None, others: tuple[int, int, int] | None
) -> list[Any]:
    """Copy arguments as tensors without memory, with other sizes of maps."""
    return [
        _imagine(arg, sizes, others)
        if isinstance(arg, tuple | list)
        else _imagine_tensor(arg, sizes, others)
        if isinstance(arg, Tensor)
        else arg
        for arg in args
    ]


def _imagine_tensor(
    x: Tensor, sizes: tuple[int, int, int] | None, others: tuple[int, int, int] | None
) -> Tensor:
    shape, strides = list(x.shape), list(x.stride())
    if others is not None and _is_map(x, sizes):
        shape[-4:-1] = others
        distance = max(x.stride(-2), x.shape[-1])
        for axis in range(x.dim() - 3, -1, -1):
            distance *= shape[axis + 1]
            strides[axis] = distance
        strides[-2:] = max(x.stride(-2), x.shape[-1]), x.stride(-1)
    return torch.empty_strided(shape, strides, dtype=x.dtype, device='meta')
