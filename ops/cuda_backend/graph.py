"""Launches whose addresses come again, as CUDA graphs: one call of the driver for all of them.

In training, PyTorch's allocator gives every step what it gave the step before, so that an operator
is given the same addresses in each.
"""

import ctypes
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from threading import Lock

import torch

from .launch import Prepared, check, driver_function

__all__ = ['Graph', 'Graphs', 'serves']

LEAST_LAUNCHES = 5
"""A graph's launch takes the host as long as some two or three kernels'."""

MOST_GRAPHS = 1024
"""A model has two for each block and size of its images, of some 150 KiB of the driver's memory."""

MOST_SEEN = 16384
"""Calls that are remembered until they come again, by their hashes."""

COST = 8
"""Of making a graph, in launches of it that make up for that; some three of a block's."""

ADVANCE = 256
"""Graphs that may be made before any has been launched."""


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
        status = driver_function('cuGraphLaunch')(self._handle, ctypes.c_void_p(stream))
        if status:
            raise RuntimeError(f'the CUDA driver refused to launch a graph: error {status}')

    def __del__(self) -> None:
        # One that is running is freed when it has finished.
        if hasattr(self, '_executable'):
            self._destroy(self._executable)


class Graphs:
    """Graphs of what is launched again and again, those used last.

    Where calls seldom come again, few graphs are made: they have to pay for one another.
    """

    def __init__(self) -> None:
        self.graphs: OrderedDict[Hashable, Graph] = OrderedDict()
        self.seen: set[int] = set()
        self.credit = ADVANCE * COST
        self.lock = Lock()

    def find(self, call: Hashable) -> Graph | None:
        """The graph of a call, if there is one.

        Args:
            call: Tells kernels and all of their arguments.
        """
        with self.lock:
            graph = self.graphs.get(call)
            if graph is not None:
                self.graphs.move_to_end(call)
                self.credit += 1
        return graph

    def remember(self, call: Hashable, launches: Sequence[Prepared]) -> None:
        """Make a graph of a call that comes again.

        Args:
            call: One that has no graph.
            launches: Its launches, with the arguments of this call.

        Raises:
            RuntimeError: If the driver refuses.
        """
        mark = hash(call)
        with self.lock:
            if mark not in self.seen:
                if len(self.seen) >= MOST_SEEN:
                    self.seen.clear()
                self.seen.add(mark)
                return
            if self.credit < COST:
                return
            self.credit -= COST
            self.seen.remove(mark)
            self.graphs[call] = Graph(launches)
            if len(self.graphs) > MOST_GRAPHS:
                self.graphs.popitem(last=False)


def serves(device: torch.device, launches: Sequence[Prepared]) -> bool:
    """Whether graphs of some launches are worth it; an emulation has none."""
    return device.type == 'cuda' and len(launches) >= LEAST_LAUNCHES
