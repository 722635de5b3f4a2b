"""Arrivals: each pod once, older ones fading by the number that came since."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.arrivals import MEMORY_PODS, ArrivalBook, fold
from scheduler.demand import Demand, GpuRequest


def mig(profile, count=1):
    return Demand(requests=(GpuRequest("mig", profile, count),))


def test_a_pod_counts_once_however_often_it_is_seen():
    book = ArrivalBook()
    pods = [("a", mig("1g.10gb")), ("b", mig("7g.80gb"))]
    for _ in range(5):
        found = book.look(pods)
    assert found == {"mig:1g.10gb": 1.0, "mig:7g.80gb": 1.0}


def test_a_pod_that_left_stays_counted_and_a_new_one_is_added():
    book = ArrivalBook()
    book.look([("a", mig("1g.10gb"))])
    found = book.look([("b", mig("1g.10gb"))])
    assert found["mig:1g.10gb"] == pytest.approx(1.0 + 0.5 ** (1 / MEMORY_PODS))


def test_instances_count_each_and_needs_of_the_node_are_left_out():
    book = ArrivalBook()
    one = Demand(requests=(GpuRequest("mig", "1g.10gb", 2),), cpu_milli=4000, memory_mib=1024)
    assert book.look([("a", one), ("b", mig("1g.10gb"))]) == {"mig:1g.10gb": 3.0}


def test_what_came_long_ago_is_forgotten():
    counts = {"mig:1g.10gb": 1.0}
    for _ in range(40):
        counts = fold(counts, {"whole:1": 100.0}, 100.0)
    assert set(counts) == {"whole:1"}


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=30))
def test_halves_are_as_good_as_the_whole(pods):
    at_once = fold({"a": 64.0}, {}, sum(pods))
    counts = {"a": 64.0}
    for number in pods:
        counts = fold(counts, {}, number)
    assert counts.get("a", 0.0) == pytest.approx(at_once.get("a", 0.0), abs=0.06)
