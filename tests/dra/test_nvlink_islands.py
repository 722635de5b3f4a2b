"""The scheduler reads the wiring that the driver publishes GPU by GPU, not the usual one of the product."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra.cards import Link
from dra.catalog import models
from dra.inventory import from_slices
from dra.nvlink import best_set, bridges, cube_mesh, direct, islands, nvswitch, pcie_only, set_bandwidth
from dra.nvlink_islands import as_told
from tests.dra.driver_slices import driver_slices
from tests.dra.memory_cards import card

A100 = models()["A100-80GB"]
V100 = models()["V100-32GB"]
USUAL = [nvswitch(A100, 8), bridges(A100, 4), direct(A100, 4), cube_mesh(V100), pcie_only(A100, 4)]


def wired(*peers, kind="gpu"):
    """The topology that the scheduler reads of cards whose peers are told."""
    cards = [
        card(
            index,
            mig=False,
            nvlink_peers=tuple(own),
            links=tuple(Link(None if kind == "switch" else peer, kind, 4) for peer in own),
        )
        for index, own in enumerate(peers)
    ]
    inventory = from_slices("n1", driver_slices("n1", *cards))
    assert inventory is not None
    return inventory.topology


def test_bridges_join_the_pairs_that_are_told():
    crossed = wired((2,), (3,), (0,), (1,))
    assert islands(crossed) == (0b0101, 0b1010)
    assert best_set(crossed, 0b1111, 2) == 0b0101
    assert crossed.links[0][2] == bridges(models()["H100-80GB"], 2).links[0][1]
    assert wired((1,), (0,), (3,), (2,)) == bridges(models()["H100-80GB"], 4)


def test_a_gpu_whose_links_are_down_is_alone():
    everyone = [tuple(other for other in range(3) if other != own) for own in range(3)]
    found = wired(*everyone, (), kind="switch")
    assert islands(found) == (0b0111, 0b1000)
    assert set_bandwidth(found, 0b1001) == found.pcie_gigabytes_per_second
    assert set_bandwidth(found, 0b0011) == nvswitch(models()["H100-80GB"], 4).links[0][1]


@pytest.mark.parametrize("usual", USUAL, ids=lambda topology: topology.name)
def test_the_usual_wiring_stays_what_it_is(usual):
    numbers = [
        next(i for i, bits in enumerate(islands(usual)) if bits >> gpu & 1) for gpu in range(usual.gpus)
    ]
    assert as_told(usual, numbers, A100) is usual
    assert as_told(usual, [None] * usual.gpus, A100) is usual


@given(st.sampled_from(USUAL), st.data())
def test_nothing_joins_two_islands_and_links_go_both_ways(usual, data):
    told = data.draw(
        st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=usual.gpus, max_size=usual.gpus)
    )
    found = as_told(usual, told, A100)
    for a in range(usual.gpus):
        for b in range(usual.gpus):
            assert found.links[a][b] == found.links[b][a]
            if found is not usual and told[a] is not None and told[b] is not None and told[a] != told[b]:
                assert found.links[a][b] == 0.0


def test_islands_of_another_number_of_gpus_are_refused():
    with pytest.raises(ValueError, match="got 1 islands for 4 GPUs"):
        as_told(bridges(A100, 4), [0], A100)
