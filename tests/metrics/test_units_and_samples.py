"""Units are converted once and refused when impossible; absent values stay absent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.samples import NoData, Sample, Vector
from metrics.units import grams_per_kwh_from_pounds_per_mwh, to_ratio, to_seconds


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [
        (2.0, "seconds", 2.0),
        (1500.0, "milliseconds", 1.5),
        (250.0, "microseconds", 0.00025),
        (8e9, "nanoseconds", 8.0),
    ],
)
def test_times_become_seconds(value, unit, seconds):
    assert to_seconds(value, unit) == seconds


@given(st.floats(0, 1))
def test_percent_and_ratio_agree(ratio):
    percent = to_ratio(ratio * 100, "percent")
    assert isinstance(percent, float)
    assert percent == pytest.approx(to_ratio(ratio, "ratio"))
    assert 0 <= percent <= 1


def test_a_percent_where_a_ratio_is_due_is_refused():
    answer = to_ratio(57.0, "ratio")
    assert isinstance(answer, NoData)
    assert answer.cause == "malformed"
    assert "57" in answer.reason


def test_small_overshoot_of_a_sampling_counter_is_full_load():
    assert to_ratio(1.004, "ratio") == 1.0
    assert to_ratio(-0.001, "ratio") == 0.0


def test_not_a_number_is_no_share():
    assert isinstance(to_ratio(math.nan, "ratio"), NoData)


def test_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour():
    assert grams_per_kwh_from_pounds_per_mwh(1000.0) == pytest.approx(453.59237)


def sample(value, **labels):
    return Sample(labels, value, 0.0)


def test_find_answers_the_one_series_with_the_labels():
    vector = Vector((sample(1.0, pod="a"), sample(2.0, pod="b")), ({"pod": "c"},))
    assert vector.find(pod="b") == 2.0


@pytest.mark.parametrize(("pod", "cause"), [("c", "not-a-number"), ("d", "empty")])
def test_find_tells_not_a_number_from_no_series(pod, cause):
    vector = Vector((sample(1.0, pod="a"),), ({"pod": "c"},))
    answer = vector.find(pod=pod)
    assert isinstance(answer, NoData)
    assert answer.cause == cause
    assert pod in answer.reason


def test_find_refuses_to_choose_between_series():
    vector = Vector((sample(1.0, pod="a", engine="0"), sample(2.0, pod="a", engine="1")))
    answer = vector.find(pod="a")
    assert isinstance(answer, NoData)
    assert answer.cause == "malformed"
