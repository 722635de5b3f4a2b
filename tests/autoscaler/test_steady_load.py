"""The load of hours: what its mean and deviation follow, how fast, and what they survive."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.forecast import Forecast
from autoscaler.headroom import Headroom
from autoscaler.shadows import Ready, Shadows
from autoscaler.state import Learned, State
from autoscaler.steady import Steady
from metrics.samples import NoData


def follow(loads: list[float], step: float = 5.0) -> Steady:
    hours = Steady(loads[0])
    for load in loads:
        hours = hours.seen(load, step)
    return hours


def test_bursts_move_the_deviation_and_hardly_the_mean():
    calm, bursty = follow([20.0] * 2880), follow(([20.0] * 232 + [200.0] * 8) * 12)
    assert calm.mean == pytest.approx(20.0)
    assert calm.deviation == pytest.approx((20.0 + 1.0) ** 0.5)
    assert bursty.mean == pytest.approx(26.0, rel=0.2)
    assert bursty.deviation == pytest.approx(33.0, rel=0.2)


def test_the_first_minutes_count_for_little_and_a_silence_for_one_look():
    early = Steady(10.0).seen(100.0, 60.0)
    assert early.mean == pytest.approx(16.0)
    assert Steady(10.0).seen(100.0, 7200.0) == early
    assert follow([10.0] * 720 + [100.0] * 12).mean < 30.0


@given(st.lists(st.floats(0.0, 5000.0), min_size=1, max_size=60), st.floats(0.0, 900.0))
def test_the_mean_stays_within_what_was_seen(loads: list[float], step: float):
    hours = follow(loads, step)
    assert min(loads) - 1e-6 <= hours.mean <= max(loads) + 1e-6
    assert hours.deviation >= 0.0


def test_a_load_that_lasted_for_a_lead_is_sustained_and_a_burst_is_not():
    forecast = Forecast.begun(20.0, 0.0)
    for look in range(200):
        load = 200.0 if look > 190 else 20.0
        forecast = forecast.seen(load, 5.0 * look, lead_seconds=120.0, unix_seconds=NoData("no clock"))
    assert forecast.fast > 150.0
    assert forecast.sustained == pytest.approx(20.0)
    for look in range(200, 280):
        forecast = forecast.seen(200.0, 5.0 * look, lead_seconds=120.0, unix_seconds=NoData("no clock"))
    assert forecast.sustained == pytest.approx(200.0, rel=0.05)


def test_a_fleet_that_stays_is_ready_for_its_quantile_or_for_what_is_sustained():
    ready = Ready(floor=70.0, spread=5.0, mean=40.0, deviation=10.0, sustained=30.0)
    assert ready.parts(2.0, steady=False) == (70.0, 10.0)
    assert ready.parts(2.0, steady=True) == (40.0, 20.0)
    assert sum(replace(ready, sustained=90.0).parts(2.0, steady=True)) == 90.0


def test_a_restart_keeps_the_load_of_hours_and_that_the_fleet_stays():
    hours = follow(([20.0] * 232 + [200.0] * 8) * 6)
    learned = Learned(
        replace(Headroom.begun(60.0, 0.99, 0.0), steady=True),
        replace(Forecast.begun(20.0, 0.0), steady=hours),
        Shadows.begun(3, 0.0),
    )
    again = State.recalled(replace(State.begun(3, 0.0), learned=learned).remembered(), 3, 0.0)
    memory = again.recalled_memory
    assert memory is not None
    assert memory.stays
    assert memory.steady is not None
    assert memory.steady.deviation == pytest.approx(hours.deviation, rel=1e-3)
    without = State.recalled('{"format":2,"deviations":1.5,"dispersion":1.0,"stays":true}', 3, 0.0)
    assert without.recalled_memory is not None
    assert without.recalled_memory.steady is None
    assert not without.recalled_memory.stays
