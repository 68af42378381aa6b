"""Launches whose addresses come again, as CUDA graphs: one call of the driver for all of them.

In training, PyTorch's allocator gives every step what it gave the step before, so that an operator
is given the same addresses in each.
"""

import ctypes
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from .launch import Prepared, check

__all__ = ['Graph', 'Graphs', 'serves']

LEAST_LAUNCHES = 5
"""A graph's launch takes the host as long as some two or three kernels'."""

MOST_GRAPHS = 256
"""Kept of an operator with arguments of one layout; a model has one for each block, if any."""

MOST_SEEN = 4096
"""Addresses that are remembered until they come again, likewise; by their hashes."""

Addresses = tuple[int, ...]


class Graph:
    """Launches, behind each other, with the arguments that they have now.

    Args:
        launches: Of kernels that have been launched before.

    Raises:
        RuntimeError: If the driver refuses.
    """

    def __init__(self, launches: Sequence[Prepared]) -> None:
        from cuda.bindings import driver

        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        stream = check(driver.cuStreamCreate(int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)))
        check(driver.cuStreamBeginCapture(stream, mode))
        try:
            for launch in launches:
                launch.run(int(stream))
        finally:
            graph = check(driver.cuStreamEndCapture(stream))
            check(driver.cuStreamDestroy(stream))
        self._destroy = driver.cuGraphExecDestroy
        self._executable = check(driver.cuGraphInstantiate(graph, 0))
        self._handle = ctypes.c_void_p(int(self._executable))
        check(driver.cuGraphDestroy(graph))

    def run(self, stream: int) -> None:
        """Launch behind what a stream, by its handle, has been given already.

        Raises:
            RuntimeError: If the driver refuses.
        """
        status = _launcher()(self._handle, ctypes.c_void_p(stream))
        if status:
            raise RuntimeError(f'the CUDA driver refused to launch a graph: error {status}')

    def __del__(self) -> None:
        # One that is running is freed when it has finished.
        if hasattr(self, '_executable'):
            self._destroy(self._executable)


@cache
def _launcher() -> Any:
    """The driver's own function, as in :mod:`.launch`."""
    from cuda.bindings import driver

    found = check(driver.cuGetProcAddress(b'cuGraphLaunch', 12000, 0))
    return ctypes.CFUNCTYPE(ctypes.c_int)(int(found))


class Graphs:
    """Graphs of some launches, by the addresses among their arguments.

    Args:
        launches: The arguments may be written over between two runs.
    """

    def __init__(self, launches: Sequence[Prepared]) -> None:
        self.launches = launches
        self.graphs: OrderedDict[Addresses, Graph] = OrderedDict()
        self.seen: set[int] = set()

    def find(self, addresses: Addresses) -> Graph | None:
        """The graph of these addresses, if there is one."""
        graph = self.graphs.get(addresses)
        if graph is not None:
            self.graphs.move_to_end(addresses)
        return graph

    def remember(self, addresses: Addresses) -> None:
        """Make a graph of the launches as they are now, if their addresses have come before.

        Raises:
            RuntimeError: If the driver refuses.
        """
        mark = hash(addresses)
        if mark not in self.seen:
            if len(self.seen) >= MOST_SEEN:
                self.seen.clear()
            self.seen.add(mark)
            return
        self.seen.remove(mark)
        self.graphs[addresses] = Graph(self.launches)
        if len(self.graphs) > MOST_GRAPHS:
            self.graphs.popitem(last=False)


def serves(device: torch.device, launches: Sequence[Prepared]) -> bool:
    """Whether graphs of some launches are worth it; an emulation has none."""
    return device.type == 'cuda' and len(launches) >= LEAST_LAUNCHES
