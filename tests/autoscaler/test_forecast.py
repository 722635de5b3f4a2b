"""The forecast: what earns a say, what it may do, and how its own error is kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.forecast import START_DISPERSION, Forecast
from metrics.samples import NoData

NO_CLOCK = NoData("not told")
DAY = 86_400.0


def follow(
    loads: list[float], *, step: float = 5.0, lead: float = 60.0, unix: bool = False, start: float = 0.0
) -> Forecast:
    forecast = Forecast.begun(loads[0], start)
    for number, load in enumerate(loads):
        now = start + step * number
        forecast = forecast.seen(load, now, lead_seconds=lead, unix_seconds=now if unix else NO_CLOCK)
    return forecast


def test_a_steady_load_forecasts_itself_and_its_dispersion_fades():
    forecast = follow([200.0] * 8000)
    assert forecast.floor(lead_seconds=60.0, unix_seconds=NO_CLOCK) == pytest.approx(200.0)
    assert forecast.dispersion < START_DISPERSION / 2
    assert forecast.relative_error == pytest.approx(0.0)


def test_bursts_raise_the_dispersion_the_more_the_longer_the_lead():
    loads = [300.0 if (look // 60) % 6 == 0 else 100.0 for look in range(6000)]
    short, long = follow(loads, lead=10.0), follow(loads, lead=240.0)
    assert START_DISPERSION < short.dispersion < long.dispersion
    assert long.relative_error is not None
    assert long.relative_error > 0.2


def test_bursts_that_are_over_within_a_lead_are_not_expected_to_last_and_steps_are():
    # 20 s of 300 every five minutes, a replica takes a minute; the level sinks after each: that much lasts.
    bursts = [300.0 if look % 60 < 4 else 100.0 for look in range(2000)]
    steps = [300.0 if (look // 720) % 2 else 100.0 for look in range(6000)]
    nobody_knows = follow([100.0, 100.0, 300.0, 300.0])
    assert nobody_knows.persistence == 1.0
    assert nobody_knows.one_lead_later(300.0) == 300.0
    assert follow(bursts).persistence < 0.5
    assert follow(steps).persistence > 0.9


def test_a_lull_within_a_steady_load_is_not_expected_to_last():
    lulls = follow([20.0 if look % 60 < 4 else 100.0 for look in range(1982)])
    assert lulls.fast < 90.0
    assert lulls.floor(lead_seconds=60.0, unix_seconds=NO_CLOCK) > lulls.fast + 0.5 * (
        lulls.level - lulls.fast
    )


def test_what_was_found_to_last_is_recalled_and_anything_else_is_as_good_as_nothing():
    found = follow([300.0 if look % 60 < 4 else 100.0 for look in range(2000)])
    fresh = Forecast.begun(100.0, 0.0)
    again = fresh.recalled((found.distance, found.lasting, found.judged_seconds))
    assert again.persistence == found.persistence
    assert fresh.recalled(()) == fresh
    assert fresh.recalled((1.0, 1.0)) == fresh


def test_a_load_that_falls_far_may_rise_as_far_and_counts_the_same():
    up = follow([200.0] * 2000 + [400.0] * 2000)
    down = follow([400.0] * 2000 + [200.0] * 2000)
    assert down.dispersion > 1.5 * follow([200.0] * 4000).dispersion
    assert down.dispersion == pytest.approx(up.dispersion, rel=0.4)


def test_a_trend_that_holds_earns_its_say_and_noise_does_not():
    rising = [100.0 + look / 5.0 for look in range(3000)]
    forecast = follow(rising, lead=300.0)
    assert forecast.trend_error < forecast.level_error
    ahead = forecast.floor(lead_seconds=300.0, unix_seconds=NO_CLOCK)
    assert forecast.fast < ahead <= rising[-1] + 72.0  # 60 + 12 s of lead margin further on it will be that
    noise = [100.0 + 40.0 * math.sin(look * 2.399) for look in range(3000)]
    restless = follow(noise, lead=300.0)
    assert restless.floor(lead_seconds=300.0, unix_seconds=NO_CLOCK) == pytest.approx(restless.fast, rel=0.02)


def daily(at: float) -> float:
    return 400.0 + 300.0 * math.sin(2.0 * math.pi * at / DAY)


def test_the_day_is_learned_and_raises_ahead_of_the_rise_only():
    step = 60.0
    loads = [daily(step * look) for look in range(int(3 * DAY / step))]
    forecast = follow(loads, step=step, lead=1800.0, unix=True)
    rising = forecast.season.growth(DAY * 0.95, 1800.0)
    falling = forecast.season.growth(DAY * 0.45, 1800.0)
    assert rising is not None
    assert falling is not None
    assert rising > 1.05
    assert falling < 1.0
    assert forecast.season_error < forecast.level_error
    now = 3 * DAY
    floor = forecast.floor(lead_seconds=1800.0, unix_seconds=now)
    assert floor > forecast.fast
    assert floor == pytest.approx(daily(now + 1860.0), rel=0.1)


def test_the_season_is_mute_before_a_whole_day_and_without_the_time_of_day():
    step = 60.0
    loads = [daily(step * look) for look in range(int(0.9 * DAY / step))]
    assert follow(loads, step=step, unix=True).season.growth(0.0, 1800.0) is None
    blind = follow(loads * 3, step=step)
    assert all(mean is None for mean in blind.season.days)


@given(st.lists(st.floats(0.0, 5000.0), min_size=1, max_size=60), st.floats(1.0, 900.0))
def test_trend_and_season_only_raise_and_the_memory_is_bounded(loads: list[float], lead: float):
    forecast = follow(loads, step=7.0, lead=lead, unix=True)
    floor = forecast.floor(lead_seconds=lead, unix_seconds=7.0 * len(loads))
    assert floor >= forecast.one_lead_later(forecast.fast) >= min(forecast.fast, forecast.level) - 1e-9
    assert 0.0 <= forecast.persistence <= 1.0
    assert forecast.dispersion >= 0.0
    assert len(forecast.looks) <= 34
