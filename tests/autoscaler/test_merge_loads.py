"""One load out of two sources."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.merge_loads import MergedLoad, Told, contradict, merged
from metrics.samples import NoData
from metrics.servers.page import PageLoad

AWAY = NoData("connection refused", "outage")


def merge(
    pods: int,
    prometheus: Mapping[str, float],
    pages: Mapping[str, float],
    *,
    asked: int | None = None,
    ready: int | None = None,
    waiting: float | None = 0.0,
) -> MergedLoad:
    """Pods are named 0, 1, …; the first ``ready`` are, the first ``asked`` were asked (default: all)."""
    names = [str(number) for number in range(pods)]
    told = Told(prometheus, dict.fromkeys(prometheus, waiting or 0.0), AWAY)
    return merged(
        names,
        set(names[:ready]),
        told,
        {name: PageLoad(load, waiting) for name, load in pages.items()},
        set(names[:asked]),
    )


def loads(values: list[float], start: int = 0) -> dict[str, float]:
    return {str(start + number): value for number, value in enumerate(values)}


def test_either_source_suffices():
    assert merge(3, loads([1.0, 2.0, 3.0]), {}).in_flight == 6.0
    assert merge(3, {}, loads([1.0, 2.0, 3.0])).in_flight == 6.0
    assert merge(3, loads([1.0]), loads([2.0, 3.0], 1)).in_flight == 6.0
    assert merge(3, {}, {}).in_flight is AWAY


def test_the_fresher_source_goes_first():
    assert merge(2, loads([10.0, 10.0]), loads([11.0, 12.0])).in_flight == 23.0
    assert merge(2, loads([12.0, 12.0]), loads([11.0, 12.0])).in_flight == 23.0


def test_a_burst_is_seen_before_prometheus_has_scraped_it():
    load = merge(2, loads([2.0, 2.0]), loads([60.0, 50.0]))
    assert load.in_flight == 110.0
    assert load.apart is not None  # for a scrape interval; only a lasting one is reported


def test_where_the_sources_contradict_each_other_the_larger_counts():
    load = merge(2, loads([60.0, 50.0]), loads([2.0, 2.0]))
    assert load.in_flight == 110.0
    assert load.apart is not None
    assert (load.apart.pods, load.apart.pages, load.apart.prometheus) == (2, 4.0, 110.0)
    assert merge(2, loads([60.0, 50.0]), loads([55.0, 48.0])).apart is None


def test_a_sample_is_scaled_up_by_pods_over_sampled():
    assert merge(100, {}, loads([3.0] * 64), asked=64).in_flight == pytest.approx(300.0)


def test_a_pod_that_has_just_been_made_carries_nothing_yet():
    load = merge(3, {}, loads([17.0]), asked=1, ready=1)
    assert (load.in_flight, load.silent) == (17.0, 0)
    assert merge(3, {}, loads([17.0]), asked=1, ready=2).in_flight == 34.0


def test_a_burst_in_the_sample_is_a_burst_of_all():
    old, new = loads([2.0] * 100), loads([8.0] * 64)
    assert merge(100, old, new, asked=64).in_flight == pytest.approx(800.0)


def test_a_lull_in_the_sample_is_believed_of_the_others_when_prometheus_sees_it():
    old, new = loads([8.0] * 100), loads([7.0] * 64)
    assert merge(100, old, new, asked=64).in_flight == pytest.approx(64 * 7.0 + 36 * 8.0)


def test_an_idle_pod_of_prometheus_does_not_hide_a_burst_in_the_sample():
    load = merge(100, loads([0.0] * 64), loads([5.0] * 64), asked=64)
    assert load.in_flight == pytest.approx(500.0)


def test_a_few_of_the_sample_say_nothing_of_the_others():
    old = loads([2.0] * 100)
    assert merge(100, old, loads([9.0] * 3), asked=64).in_flight == pytest.approx(97 * 2.0 + 3 * 9.0)
    assert merge(100, {}, loads([9.0] * 3), asked=64).silent == 97


def test_a_pod_that_nobody_tells_of_is_silent_and_an_estimated_one_is_not():
    assert merge(3, loads([1.0]), loads([1.0, 2.0])).silent == 1
    assert merge(100, {}, loads([3.0] * 60), asked=64).silent == 4


def test_only_what_was_measured_is_told_by_pod():
    load = merge(5, {}, loads([3.0, 4.0]), asked=3)
    assert load.by_pod == {"0": 3.0, "1": 4.0}


def test_the_queue_is_known_where_every_pod_tells_it():
    assert merge(2, loads([4.0, 4.0]), loads([4.0]), waiting=1.0).waiting == 2.0
    unknown = merge(2, loads([4.0, 4.0]), loads([4.0]), waiting=None).waiting
    assert isinstance(unknown, NoData)


values = st.floats(0.0, 500.0)


@given(prometheus=st.lists(values, max_size=6), pages=st.lists(values, min_size=1, max_size=6))
def test_the_load_is_never_below_what_the_fresh_pages_add_up_to(prometheus: list[float], pages: list[float]):
    load = merge(6, loads(prometheus), loads(pages))
    assert isinstance(load.in_flight, float)
    assert load.in_flight >= sum(pages) - 1e-6
    assert load.silent == 6 - max(len(prometheus), len(pages))


@given(values, values)
def test_contradiction_is_symmetric_and_no_matter_of_noise(one: float, other: float):
    assert contradict(one, other) == contradict(other, one)
    assert not contradict(one, one)
    assert not contradict(one, one + 2.0 * one**0.5)
