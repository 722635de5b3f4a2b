"""When held jobs start: the cheapest hours that deadlines and GPUs allow."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.batch.candidates import SLOT_SECONDS, candidates
from autoscaler.batch.contention import by_orders, fits_together, room, worth
from autoscaler.batch.curve import HOUR_SECONDS, Curve
from autoscaler.batch.schedule import schedule
from autoscaler.batch.work import HeldJob, Pool
from metrics.samples import NoData

HOUR = HOUR_SECONDS
GRAMS = [400, 380, 300, 200, 100, 120, 300, 500] + [600] * 16
NOW = 1_000_000 * HOUR


def grid(values=GRAMS):
    return {"z": Curve.hourly(NOW, values)}


def pool(gpus=8.0, name="p", zone="z"):
    return Pool(name, zone, Curve.constant(gpus, NOW), 400.0)


def job(key="a", gpus=1.0, hours=2.0, deadline_hours=24.0, factor=1.0, **rest):
    return HeldJob(key, gpus, NOW + deadline_hours * HOUR, hours * HOUR, factor * hours * HOUR, **rest)


def start_hours(plan, key="a"):
    return (plan.starts[key].at_seconds - NOW) / HOUR


def test_a_job_starts_in_the_cleanest_hours_of_its_window():
    plan = schedule([job(hours=2)], grid(), {}, [pool()], NOW)
    assert start_hours(plan) == 4.0
    kilowatt_hours = 2 * 0.4
    assert plan.cost == pytest.approx(kilowatt_hours * 110 / 1e6 * 100.0, rel=1e-3)
    assert plan.method == "separate"


def test_the_margin_for_a_longer_run_and_for_queueing_bounds_the_start():
    slack = job(hours=2, deadline_hours=8, factor=2.0, queue_seconds=HOUR)
    assert start_hours(schedule([slack], grid(), {}, [pool()], NOW)) == 3.0
    assert schedule([slack], grid(), {}, [pool()], NOW).margins["a"] == 0.0


def test_what_cannot_meet_its_deadline_goes_at_once_and_is_late():
    plan = schedule([job(hours=2, deadline_hours=1.5)], grid(), {}, [pool()], NOW)
    assert plan.starts["a"].late
    assert plan.starts["a"].at_seconds == NOW
    assert plan.margins["a"] < 0.0


def test_energy_prices_move_a_job_as_carbon_does():
    prices = {"z": Curve.hourly(NOW, [0.3] * 10 + [0.01] + [0.3] * 20)}
    plan = schedule([job(hours=1)], {"z": Curve.constant(300.0, NOW)}, prices, [pool()], NOW)
    assert start_hours(plan) == 10.0


def test_delay_that_costs_more_than_the_grid_saves_is_not_taken():
    assert start_hours(schedule([job()], grid(), {}, [pool()], NOW, delay_hour=1.0)) == 0.0


@pytest.mark.parametrize("forecast", [{}, {"z": NoData("down", "outage")}])
def test_without_any_forecast_nobody_is_held(forecast):
    assert start_hours(schedule([job()], forecast, {}, [pool()], NOW)) == 0.0


def test_a_zone_without_a_forecast_does_not_win_for_it():
    pools = [pool(name="known"), pool(name="dark", zone="dark")]
    plan = schedule([job()], grid(), {}, pools, NOW)
    assert start_hours(plan) == 4.0
    assert plan.cost > 0.0


def test_the_cleaner_of_two_zones_is_counted_on():
    zones = {"z": Curve.constant(300.0, NOW), "clean": Curve.constant(50.0, NOW)}
    plan = schedule([job()], zones, {}, [pool(), pool(name="c", zone="clean")], NOW)
    assert plan.starts["a"].pool == "c"


def test_a_job_uses_only_pools_that_it_may_use():
    zones = {"z": Curve.constant(300.0, NOW), "clean": Curve.constant(50.0, NOW)}
    only = job(pools=frozenset({"p"}))
    assert schedule([only], zones, {}, [pool(), pool(name="c", zone="clean")], NOW).starts["a"].pool == "p"


def test_jobs_that_want_the_same_hours_share_them_by_gpus():
    jobs = [job(key=str(i), gpus=4.0, hours=1.0) for i in range(6)]
    plan = schedule(jobs, grid(), {}, [pool(gpus=8.0)], NOW)
    assert plan.method != "separate"
    assert _peak(jobs, plan) <= 8.0
    assert not any(start.crowded for start in plan.starts.values())


def test_a_job_that_no_gpus_are_free_for_goes_at_once():
    plan = schedule([job(gpus=16.0)], grid(), {}, [pool(gpus=8.0)], NOW)
    assert plan.starts["a"].crowded
    assert start_hours(plan) == 0.0


def test_a_job_that_the_others_leave_no_room_goes_at_its_latest_start_and_not_before():
    jobs = [
        job("short", gpus=8.0, hours=1.0, deadline_hours=2.5),
        job("long", gpus=8.0, hours=2.0, deadline_hours=2.5),
    ]
    plan = schedule(jobs, grid(), {}, [pool(gpus=8.0)], NOW)
    [crowded] = [key for key, start in plan.starts.items() if start.crowded]
    assert crowded == "long"
    assert start_hours(plan, "long") == 0.5


def test_gpus_are_planned_with_beyond_the_expected_end():
    jobs = [job(key, gpus=8.0, hours=2.0, factor=2.0) for key in ("a", "b")]
    plan = schedule(jobs, grid(), {}, [pool(gpus=8.0)], NOW)
    assert abs(start_hours(plan, "a") - start_hours(plan, "b")) >= 3.0


def test_gpus_that_come_back_later_are_waited_for():
    free = Curve((NOW, NOW + 6 * HOUR, NOW + 48 * HOUR), (0.0, 8.0))
    plan = schedule([job(gpus=2.0)], grid(), {}, [Pool("p", "z", free, 400.0)], NOW)
    assert start_hours(plan) == 6.0


def test_a_job_without_gpus_needs_no_room():
    idle = job(gpus=0.0, base_watts=100.0)
    plan = schedule([idle], grid(), {}, [pool(gpus=0.0)], NOW)
    assert start_hours(plan) == 4.0


def test_equal_input_gives_equal_plans():
    jobs = [job(key=str(i), gpus=float(1 + i % 3), hours=1 + i % 4) for i in range(12)]
    plans = [schedule(jobs, grid(), {}, [pool(gpus=4.0)], NOW) for _ in range(2)]
    assert plans[0] == plans[1]


def test_the_plan_is_the_cheapest_there_is():
    random = np.random.default_rng(7)
    for _ in range(6):
        values = random.uniform(50, 500, 6).tolist()
        jobs = [
            job(str(i), float(random.integers(1, 4)), 0.5 * float(random.integers(1, 4)), 3.5)
            for i in range(3)
        ]
        rooms = [pool(gpus=3.0)]
        plan = schedule(jobs, grid(values), {}, rooms, NOW, effort=5.0)
        choices = candidates(jobs, grid(values), {}, rooms, NOW, carbon_tonne=100.0, delay_hour=0.0)
        left = room(rooms, choices, NOW)
        slots = [range(choice.costs.shape[1]) for choice in choices]
        every = ([(0, slot) for slot in pick] for pick in itertools.product(*slots))
        fits = [
            sum(float(c.costs[p]) for c, p in zip(choices, picks, strict=True))
            for picks in every
            if all(np.isfinite(c.costs[p]) for c, p in zip(choices, picks, strict=True))
            and fits_together(choices, picks, left)
        ]
        if fits:
            assert plan.cost <= min(fits) * 1.0011
        else:
            assert any(start.crowded for start in plan.starts.values())


jobs_drawn = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0, 8.0]),
        st.floats(0.2, 6.0),
        st.floats(0.5, 30.0),
        st.floats(1.0, 2.0),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(drawn=jobs_drawn, gpus=st.sampled_from([0.0, 4.0, 8.0, 64.0]), seed=st.integers(0, 5))
def test_deadlines_and_gpus_hold_whatever_comes(drawn, gpus, seed):
    values = np.random.default_rng(seed).uniform(20, 600, 40).tolist()
    jobs = [job(str(i), g, h, d, f, base_watts=10.0) for i, (g, h, d, f) in enumerate(drawn)]
    plan = schedule(jobs, grid(values), {}, [pool(gpus=gpus)], NOW, effort=0.2)
    assert set(plan.starts) == {one.key for one in jobs}
    for one in jobs:
        start = plan.starts[one.key]
        assert start.at_seconds >= NOW
        assert start.late == (one.latest_start_seconds < NOW)
        if not start.late:
            assert start.at_seconds <= one.latest_start_seconds
            assert plan.margins[one.key] >= 0.0
        if start.late:
            assert start.at_seconds == NOW
        if start.crowded:
            assert start.at_seconds in (NOW, one.latest_start_seconds)
    assert _peak(jobs, plan) <= gpus + 1e-6


def test_the_solver_is_never_worse_than_the_simple_orders():
    random = np.random.default_rng(3)
    values = random.uniform(50, 500, 30).tolist()
    jobs = [job(str(i), float(random.integers(1, 5)), float(random.uniform(0.5, 4)), 24.0) for i in range(25)]
    rooms = [pool(gpus=8.0)]
    choices = candidates(jobs, grid(values), {}, rooms, NOW, carbon_tonne=100.0, delay_hour=0.0)
    simple = worth(choices, by_orders(choices, room(rooms, choices, NOW)))
    plan = schedule(jobs, grid(values), {}, rooms, NOW, effort=0.5)
    left_out = sum(start.crowded for start in plan.starts.values())
    assert (left_out, plan.cost) <= (simple[0], simple[1] * (1 + 1e-9))


def _peak(jobs, plan):
    """Most GPUs in use in any slot, of those that a plan counted on."""
    used = {}
    for one in jobs:
        start = plan.starts[one.key]
        if start.pool is None:
            continue
        slot = round((start.at_seconds - NOW) / SLOT_SECONDS)
        for at in range(slot, slot + max(1, int(np.ceil(one.expected_seconds / SLOT_SECONDS)))):
            used[at] = used.get(at, 0.0) + one.gpus
    return max(used.values(), default=0.0)


def test_a_curve_repeats_its_last_day():
    curve = Curve.hourly(0.0, [*range(30)])
    longer = curve.reaching(60 * HOUR)
    assert longer.values[30:54] == curve.values[6:30]
    assert replace(longer) == longer
    assert longer.integral(np.array([60 * HOUR]))[0] == pytest.approx(
        HOUR * (sum(range(30)) + sum(range(6, 30)) + sum(range(6, 12)))
    )


def test_a_curve_shorter_than_a_day_goes_on_with_its_mean():
    assert Curve.hourly(0.0, [1.0, 3.0]).reaching(10 * HOUR).values[-1] == 2.0


def test_a_curve_needs_rising_edges():
    with pytest.raises(ValueError, match="must rise"):
        Curve((0.0, 0.0), (1.0,))
