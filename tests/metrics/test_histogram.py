"""Quantiles from buckets: the documented corners, and invariants."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.histogram import add_buckets, buckets_by_pod, quantile_from_buckets, share_above
from metrics.samples import NoData, Sample, Vector

INF = math.inf
HISTOGRAM = {0.1: 10.0, 0.5: 30.0, 1.0: 40.0, INF: 40.0}


@pytest.mark.parametrize(
    ("q", "expected"), [(0.0, 0.0), (0.125, 0.05), (0.25, 0.1), (0.5, 0.3), (0.75, 0.5), (1.0, 1.0)]
)
def test_linear_inside_the_bucket(q, expected):
    assert quantile_from_buckets(HISTOGRAM, q) == pytest.approx(expected)


def test_a_rank_in_the_last_bucket_gives_the_highest_finite_bound():
    assert quantile_from_buckets({1.0: 1.0, 2.0: 2.0, INF: 10.0}, 0.95) == 2.0


def test_a_first_bound_at_or_below_zero_is_the_answer_itself():
    assert quantile_from_buckets({-1.0: 5.0, 1.0: 6.0, INF: 6.0}, 0.5) == -1.0


@pytest.mark.parametrize("count", [0.0, math.nan])
def test_nothing_observed_is_not_a_number_not_zero(count):
    answer = quantile_from_buckets({1.0: count, INF: count}, 0.95)
    assert isinstance(answer, NoData)
    assert answer.cause == "not-a-number"


@pytest.mark.parametrize("buckets", [{}, {INF: 3.0}, {1.0: 3.0, 2.0: 4.0}])
def test_no_histogram_is_malformed(buckets):
    answer = quantile_from_buckets(buckets, 0.95)
    assert isinstance(answer, NoData)
    assert answer.cause == "malformed"


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_outside_zero_to_one_is_a_mistake(q):
    with pytest.raises(ValueError, match="quantile"):
        quantile_from_buckets(HISTOGRAM, q)


def test_counts_that_fall_are_taken_as_flat():
    assert quantile_from_buckets({1.0: 10.0, 2.0: 9.0, INF: 10.0}, 0.95) == pytest.approx(0.95)


histograms = st.lists(
    st.tuples(st.floats(0.001, 1000), st.floats(0, 1e6)),
    min_size=1,
    max_size=12,
    unique_by=lambda pair: pair[0],
).map(lambda pairs: _cumulative(sorted(pairs)))


def _cumulative(pairs):
    total, out = 0.0, {}
    for bound, count in pairs:
        total += count
        out[bound] = total
    return {**out, INF: total + 1.0}


@given(histograms, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_stay_between_the_bounds_and_rise_with_q(buckets, one, other):
    low, high = (quantile_from_buckets(buckets, q) for q in sorted((one, other)))
    if isinstance(low, NoData) or isinstance(high, NoData):
        return
    assert 0 <= low <= high * (1 + 1e-9)
    assert high <= max(bound for bound in buckets if bound < INF) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("bound", "expected"), [(0.0, 1.0), (0.05, 0.875), (0.1, 0.75), (0.3, 0.5), (0.5, 0.25), (1.0, 0.0)]
)
def test_the_share_above_a_bound_is_linear_inside_its_bucket(bound, expected):
    assert share_above(HISTOGRAM, bound) == pytest.approx(expected)


def test_the_share_above_the_highest_finite_bound_is_unknown_even_when_nothing_was_that_slow():
    answer = share_above(HISTOGRAM, 1.5)
    assert isinstance(answer, NoData)
    assert answer.cause == "misconfigured"
    assert answer.reason == "1.5 is above the histogram's highest finite bound, 1"


@pytest.mark.parametrize(
    ("buckets", "cause"),
    [({1.0: 0.0, INF: 0.0}, "empty"), ({1.0: math.nan, INF: math.nan}, "empty"), ({INF: 3.0}, "malformed")],
)
def test_without_observations_there_is_no_share(buckets, cause):
    answer = share_above(buckets, 0.5)
    assert isinstance(answer, NoData)
    assert answer.cause == cause


def test_a_first_bound_at_or_below_zero_holds_its_own():
    assert share_above({-1.0: 5.0, 1.0: 6.0, INF: 10.0}, -1.0) == 0.5
    assert share_above({-1.0: 5.0, 1.0: 6.0, INF: 10.0}, -2.0) == 1.0


@given(histograms, st.floats(0.01, 1))
def test_the_share_above_undoes_the_quantile(buckets, q):
    highest = max(bound for bound in buckets if bound < INF)
    value = quantile_from_buckets(buckets, q)
    if isinstance(value, NoData) or value >= highest * (1 - 1e-6):
        return
    share = share_above(buckets, value)
    assert isinstance(share, float)
    assert 0 <= share <= 1
    assert share == pytest.approx(1 - q, abs=1e-6)


@given(st.lists(histograms, min_size=1, max_size=4))
def test_adding_keeps_every_observation(many):
    total = add_buckets(many)
    assert total[INF] == pytest.approx(sum(buckets[INF] for buckets in many))
    assert set(total) == set.intersection(*(set(buckets) for buckets in many))


def test_adding_replicas_of_two_versions_keeps_the_bounds_they_share():
    old, new = {1.0: 1.0, 2.0: 2.0, INF: 2.0}, {1.0: 4.0, 4.0: 5.0, INF: 6.0}
    assert add_buckets([old, new]) == {1.0: 5.0, INF: 8.0}


def test_adding_nothing_is_no_histogram():
    assert add_buckets([]) == {}


def test_buckets_are_split_by_pod_and_bounds_become_seconds():
    def bucket(pod, le, value):
        return Sample({"namespace": "n", "pod": pod, "le": le}, value, 0.0)

    vector = Vector((bucket("a", "500", 1.0), bucket("a", "+Inf", 2.0), bucket("b", "500.0", 3.0)))
    assert buckets_by_pod(vector, "milliseconds") == {
        ("n", "a"): {0.5: 1.0, INF: 2.0},
        ("n", "b"): {0.5: 3.0},
    }


def test_a_series_without_a_bound_is_no_bucket():
    assert buckets_by_pod(Vector((Sample({"namespace": "n", "pod": "a"}, 1.0, 0.0),))) == {}
