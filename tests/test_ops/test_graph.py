"""Launches whose addresses come again."""

import ctypes

import pytest
from cuda_emulation import Captured

from mmv2m.ops.cuda_backend import graph as module
from mmv2m.ops.cuda_backend.graph import COST, Graphs
from mmv2m.ops.cuda_backend.launch import Prepared


class Noted(Prepared):
    """A launch that notes what it is given."""

    def __init__(self, notes):
        super().__init__(0, (1, 1, 1), 1, 0, [ctypes.c_int(0)])
        self.notes = notes

    def run(self, stream):
        self.notes.append(self.arguments[0].value)


@pytest.fixture
def notes():
    return []


@pytest.fixture
def give(monkeypatch, notes):
    """What a replay does with one address; whether there was a graph."""
    monkeypatch.setattr(module, 'Graph', Captured)
    monkeypatch.setattr(module, 'MOST_GRAPHS', 2)
    monkeypatch.setattr(module, 'MOST_SEEN', 3)
    graphs, launch = Graphs(), Noted(notes)

    def give(address):
        graph = graphs.find((0, address))
        if graph:
            graph.run(0)
            return True
        launch.arguments[0].value = address
        launch.run(0)
        graphs.remember((0, address), [launch])
        return False

    give.graphs = graphs
    return give


def test_the_third_time_is_a_graphs(give, notes):
    found = [give(address) for address in (7, 8, 7, 8, 7, 8)]
    assert found == [False] * 4 + [True] * 2
    assert notes == [7, 8] * 3


def test_addresses_that_do_not_come_again_are_forgotten(give):
    assert not any(give(address) for address in range(100))
    assert len(give.graphs.seen) <= 3 and not give.graphs.graphs


def test_the_graphs_used_last_are_kept(give):
    for address in (1, 1, 2, 2):
        give(address)
    assert give(1)
    for _ in range(2):
        give(3)
    assert [give(address) for address in (1, 3, 2)] == [True, True, False]


def test_graphs_pay_for_one_another(give):
    give.graphs.credit = COST
    for address in (1, 1, 2, 2):
        give(address)
    assert list(give.graphs.graphs) == [(0, 1)]  # nothing is left for another one
    assert all(give(1) for _ in range(COST))
    give(2)
    assert list(give.graphs.graphs) == [(0, 1), (0, 2)]
