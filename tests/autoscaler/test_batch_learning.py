"""What batch release learns: grids by the hour, durations and waits of jobs; it outlives a restart."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest

from autoscaler.batch.curve import HOUR_SECONDS, Curve
from autoscaler.batch.durations import KEPT_FAMILIES, SETTLED, Durations
from autoscaler.batch.grid_forecast import KEPT_HOURS, day_ahead
from autoscaler.batch.history import GridHistory
from autoscaler.batch.memory import CONFIG_MAP, KEY, BatchMemory, Learned, as_texts, from_texts
from autoscaler.batch.outlook import lead_error, outlook, tariff
from cluster.numbered_maps import map_names
from metrics.carbon.intensity import Intensity
from metrics.samples import NoData
from tests.cluster_room.kept_maps import Maps

HOUR = HOUR_SECONDS
DAY = [300 + 100 * math.sin(hour / 24 * 2 * math.pi) for hour in range(24)]


def sunny(hours):
    return (DAY * (hours // 24 + 1))[:hours]


def test_a_grid_that_repeats_itself_is_forecast_exactly():
    found = day_ahead(sunny(600), 599 * HOUR)
    expected = sunny(700)[599 : 599 + 48]
    assert found.curve.values == pytest.approx(expected, abs=1e-6)
    assert found.curve.edges[0] == 599 * HOUR
    assert max(found.error_ratio) < 1e-9


def test_a_deviation_is_carried_on_as_long_as_deviations_last():
    random = np.random.default_rng(1)
    wander = [0.0]
    for _ in range(699):
        wander.append(0.9 * wander[-1] + random.normal(0, 20))
    seen = [usual + off for usual, off in zip(sunny(700), wander, strict=True)]
    seen[-1] = sunny(700)[-1] + 200.0
    found = day_ahead(seen, 0.0)
    usual = sunny(800)[699:747]
    ahead = [value - base for value, base in zip(found.curve.values, usual, strict=True)]
    assert ahead[0] == pytest.approx(200.0)
    assert ahead[1] > ahead[6] > 20.0
    assert abs(ahead[30]) < 80.0


def test_the_forecast_sees_nothing_of_what_comes():
    seen = np.random.default_rng(2).uniform(50, 500, 800).tolist()
    assert day_ahead(seen[:700], 0.0) == day_ahead([*seen[:700]], 0.0)
    assert day_ahead(seen, 0.0) == day_ahead(seen[-KEPT_HOURS:], 0.0)


def test_a_short_history_forecasts_what_it_can():
    assert set(day_ahead([200.0], 0.0).curve.values) == {200.0}
    week = day_ahead(sunny(30), 29 * HOUR)
    assert week.error_ratio == ()
    assert week.curve.values[19:25] == pytest.approx(sunny(60)[48:54], abs=40.0)


def test_missing_hours_count_for_nothing():
    seen = sunny(600)
    for hour in range(100, 600, 7):
        seen[hour] = math.nan
    seen[-1] = sunny(600)[-1]
    assert day_ahead(seen, 0.0).curve.values == pytest.approx(sunny(700)[599:647], abs=1e-6)


def test_a_history_without_the_present_hour_forecasts_nothing():
    assert isinstance(day_ahead([*sunny(60), math.nan], 0.0), NoData)
    assert isinstance(day_ahead([], 0.0), NoData)


def test_looks_of_one_hour_are_averaged_and_gaps_stay_gaps():
    history = GridHistory().seen("DE", 100.0, 10 * HOUR).seen("DE", 300.0, 10.5 * HOUR)
    history = history.seen("DE", 50.0, 13 * HOUR)
    values = history.zones["DE"].values
    assert values[0] == 200.0
    assert math.isnan(values[1])
    assert math.isnan(values[2])
    assert values[3] == 50.0
    assert isinstance(history.forecast("DE", 14 * HOUR), NoData)
    assert isinstance(history.forecast("FR", 13 * HOUR), NoData)
    assert history.forecast("DE", 13 * HOUR).curve.values[0] == 50.0


def test_nonsense_is_not_kept():
    assert GridHistory().seen("DE", math.nan, 0.0) == GridHistory()


def test_expected_is_what_is_declared_else_the_median_of_the_family():
    known = Durations()
    assert isinstance(known.expected_seconds("a/train", None), NoData)
    for seconds in (100.0, 300.0, 200.0):
        known = known.ran("a/train", seconds, None)
    assert known.expected_seconds("a/train", None) == 200.0
    assert known.expected_seconds("a/train", 50.0) == 50.0


def test_the_stated_factor_stands_until_enough_runs_were_seen_and_never_hides_a_longer_one():
    known = Durations()
    assert known.longest_factor(1.5) == 1.5
    for _ in range(5):
        known = known.ran("a/b", 100.0, 100.0)
    assert known.longest_factor(1.5) == 1.5
    known = known.ran("a/b", 300.0, 100.0)
    assert known.longest_factor(1.5) >= 3.0


def test_a_steady_cluster_earns_smaller_margins():
    known = Durations()
    for index in range(SETTLED + 5):
        known = known.ran("a/b", 100.0 + index % 3, 100.0)
    assert 1.1 <= known.longest_factor(2.0) < 1.2


def test_few_of_many_runs_exceed_the_bound():
    random = np.random.default_rng(5)
    known, exceeded, count = Durations(), 0, 4000
    for ratio in np.exp(random.normal(0.0, 0.2, count)):
        exceeded += bool(len(known.ratios) >= SETTLED and ratio > known.longest_factor(1.5))
        known = known.ran("a/b", 1000.0 * float(ratio), 1000.0)
    assert exceeded <= count / 500


def test_the_longest_wait_of_late_is_expected_again():
    known = Durations().waited(100.0).waited(2000.0)
    assert known.queue_seconds(900.0) == 2500.0
    assert Durations().queue_seconds(900.0) == 900.0


def test_runs_of_no_length_teach_nothing():
    assert Durations().ran("a/b", 0.0, None) == Durations()


HISTORY = GridHistory().seen("DE", 100.0, 10 * HOUR).seen("DE", 110.0, 12 * HOUR)
KNOWN = Learned(HISTORY, Durations().ran("a/b", 100.0, 80.0).waited(5.0), 1234.0)


def test_memory_comes_back_as_it_was():
    again = from_texts(as_texts(KNOWN))
    assert again.jobs == KNOWN.jobs
    assert again.learned_until_seconds == 1234.0
    assert as_texts(again) == as_texts(KNOWN)


def test_the_families_seen_longest_ago_are_forgotten_first():
    known = Durations()
    for index in range(KEPT_FAMILIES):
        known = known.ran(f"a/{index}", 100.0, None)
    known = known.ran("a/0", 100.0, None).ran("a/new", 100.0, None)
    assert len(known.runs) == KEPT_FAMILIES
    assert "a/1" not in known.runs
    assert {"a/0", "a/2", "a/new"} <= known.runs.keys()


def batch_maps(texts):
    return Maps({CONFIG_MAP: {KEY: texts if isinstance(texts, str) else json.dumps(texts)}})


@pytest.mark.parametrize(
    "texts",
    ["{", "[]", {"zone DE": "[]"}, {"family a": "[-1]"}, {"": json.dumps({"jobs": '{"ratios": [-1]}'})}, ""],
)
def test_a_memory_that_makes_no_sense_is_told_and_begun_anew(texts, caplog):
    memory = BatchMemory(batch_maps(texts).api, "ns")
    assert memory.read() == Learned()
    assert f"ConfigMap ns/{CONFIG_MAP}: " in caplog.text


def test_what_was_kept_in_one_text_is_taken_up():
    zones = {"DE": {"hour": 12, "grams": [100.0, None, 110.0]}}
    jobs = {"runs": {"a/b": [100.0]}, "ratios": [1.25], "waits": [5.0]}
    one = {"grids": json.dumps(zones), "jobs": json.dumps(jobs), "learned_until": 1234.0}
    api = batch_maps(one)
    memory = BatchMemory(api.api, "ns", clock=lambda: 0.0)
    found = memory.read()
    assert as_texts(found) == as_texts(KNOWN)
    memory.keep(found)
    assert as_texts(BatchMemory(api.api, "ns").read()) == as_texts(KNOWN)


def test_memory_is_written_when_it_changed_and_an_outage_stops_nothing():
    api, now = Maps(), [0.0]
    memory = BatchMemory(api.api, "ns", period_seconds=60.0, clock=lambda: now[0])
    assert memory.read() == Learned()
    learned = Learned(jobs=Durations().waited(5.0))
    assert memory.keep(learned) == learned
    assert from_texts(json.loads(api.data[CONFIG_MAP][KEY])) == learned
    api.left, now[0] = -1, 100.0
    memory.keep(Learned())
    assert memory.read() is None
    api.left = 10**9
    assert memory.read() == learned


def many_families():
    runs = [float(f"{1000.0 + math.sin(index) * 900.0:.6g}") for index in range(16)]
    return {f"team-{index % 50}/training-{index}": tuple(runs) for index in range(10_000)}


def test_ten_thousand_families_are_kept():
    api = Maps()
    learned = Learned(HISTORY, Durations(many_families(), (1.5,), (5.0,)), 1234.0)
    memory = BatchMemory(api.api, "ns", clock=lambda: 0.0)
    memory.read()
    memory.keep(learned)
    assert 1 < len(api.data) <= 4
    assert all(len(data[KEY]) < 2**20 for data in api.data.values())
    again = BatchMemory(api.api, "ns").read()
    assert again.jobs.runs == learned.jobs.runs
    assert (again.grids.zones.keys(), again.learned_until_seconds) == ({"DE"}, 1234.0)


def test_what_could_not_be_read_at_first_is_put_before_what_was_learned_since():
    api, now = Maps(), [0.0]
    memory = BatchMemory(api.api, "ns", period_seconds=60.0, clock=lambda: now[0])
    memory.read()
    memory.keep(Learned(HISTORY, Durations(many_families())))
    last = map_names(CONFIG_MAP)[len(api.data) - 1]
    away = next(name for name in json.loads(api.data[last][KEY]) if name.startswith("family "))[7:]
    api.refused = {last}
    again = BatchMemory(api.api, "ns", period_seconds=60.0, clock=lambda: now[0])
    known = again.read()
    assert away not in known.jobs.runs
    known = again.keep(Learned(known.grids, known.jobs.ran(away, 77.0, None)))
    assert known.jobs.runs[away] == (77.0,)
    api.refused, now[0] = set(), 100.0
    known = again.keep(known)
    assert known.jobs.runs[away] == (*many_families()[away][1:], 77.0)
    assert known.jobs.runs.keys() == many_families().keys()


def step(at, grams, hours=1.0):
    return Intensity("DE", grams, "average", at, at + hours * HOUR, "test", True)


def test_the_providers_forecast_goes_first_and_the_own_one_goes_on_from_its_end():
    own = day_ahead(sunny(600), 599 * HOUR)
    told = [step((599 + i) * HOUR, 10.0) for i in range(6)]
    curve = outlook(told, own, None, 599 * HOUR)
    assert curve.values[:6] == (10.0,) * 6
    assert curve.values[6:10] == pytest.approx(own.curve.values[6:10])


def test_a_whole_day_of_the_provider_needs_nothing_else():
    told = [step(i * HOUR, float(i)) for i in range(30)]
    assert outlook(told, NoData("none", "empty"), None, 0.0).values == tuple(map(float, range(30)))


def test_with_only_the_intensity_of_now_it_is_taken_to_stay():
    missing = NoData("needs a paid plan", "refused")
    assert outlook(missing, missing, step(0.0, 77.0), 0.0) == Curve.constant(77.0, 0.0)
    assert outlook(missing, missing, None, 0.0) is missing


def test_a_tariff_begins_at_midnight():
    curve = tariff([float(hour) for hour in range(24)], 90_000.0)
    assert curve.at(np.array([90_000.0]))[0] == 1.0
    assert isinstance(tariff((), 0.0), NoData)


def test_the_error_is_a_mean_over_leads():
    found = day_ahead(np.random.default_rng(3).uniform(50, 500, 700).tolist(), 0.0)
    assert lead_error(found, 12) == pytest.approx(statistics.fmean(found.error_ratio[1:13]))
    assert isinstance(lead_error(day_ahead([1.0], 0.0), 12), NoData)
