"""Launches whose addresses come again."""

import ctypes

import pytest

from mmv2m.ops.cuda_backend import graph as module
from mmv2m.ops.cuda_backend.graph import Graphs
from mmv2m.ops.cuda_backend.launch import Prepared


class Noted(Prepared):
    """A launch that notes what it is given."""

    def __init__(self, notes):
        super().__init__(0, (1, 1, 1), 1, 0, [ctypes.c_int(0)])
        self.notes = notes

    def run(self, stream):
        self.notes.append(self.arguments[0].value)


class Played:
    """Takes a graph's place: repeats launches with the arguments that they had."""

    def __init__(self, launches):
        self.launches = [(launch, launch.arguments[0].value) for launch in launches]

    def run(self, stream):
        for launch, value in self.launches:
            launch.notes.append(value)


@pytest.fixture
def graphs(monkeypatch):
    monkeypatch.setattr(module, 'Graph', Played)
    monkeypatch.setattr(module, 'MOST_GRAPHS', 2)
    monkeypatch.setattr(module, 'MOST_SEEN', 3)
    return Graphs([Noted([])])


def give(graphs, address):
    """What a replay does with one address; whether there was a graph."""
    graph = graphs.find((address,))
    if graph:
        graph.run(0)
        return True
    graphs.launches[0].arguments[0].value = address
    graphs.launches[0].run(0)
    graphs.remember((address,))
    return False


def test_the_third_time_is_a_graphs(graphs):
    found = [give(graphs, address) for address in (7, 8, 7, 8, 7, 8)]
    assert found == [False] * 4 + [True] * 2
    assert graphs.launches[0].notes == [7, 8] * 3


def test_addresses_that_do_not_come_again_are_forgotten(graphs):
    assert not any(give(graphs, address) for address in range(100))
    assert len(graphs.seen) <= 3 and not graphs.graphs


def test_the_graphs_used_last_are_kept(graphs):
    for address in (1, 1, 2, 2):
        give(graphs, address)
    assert give(graphs, 1)
    for _ in range(2):
        give(graphs, 3)
    assert [give(graphs, address) for address in (1, 3, 2)] == [True, True, False]
