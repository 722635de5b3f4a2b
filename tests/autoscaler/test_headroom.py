"""The learned headroom: where it starts, what moves it, what may not, and where it ends up."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler import reasons
from autoscaler.decide import decide
from autoscaler.headroom import AIM_SHARE, Headroom
from autoscaler.shadows import CANDIDATES, Shadows
from autoscaler.signals import Signals
from autoscaler.state import State
from cluster.policy import AutoscalingPolicy
from metrics.samples import NoData

OUTAGE = NoData("connection refused", "outage")
SETTINGS: dict[str, Any] = {
    "attainment": 0.99,
    "learning_rate": 0.2,
    "least": 0.0,
    "most": 8.0,
    "cold_start_seconds": 30.0,
    "worth": 50.0,
}


def policy(**changes: Any) -> AutoscalingPolicy:
    values: dict[str, Any] = {
        "target": {"name": "llm"},
        "maxReplicas": 50,
        "inFlight": {"perReplica": 16.0},
        "slo": {"latencySeconds": 2.0},
        **changes,
    }
    return AutoscalingPolicy.model_validate(values)


def serving(current: int, in_flight: float | NoData, **changes: Any) -> Signals:
    values: dict[str, Any] = {
        "ready": current,
        "request_rate": 20.0,
        "waiting": 0.0,
        "slo_missed": 0.0,
        "cold_start_seconds": 30.0,
        **changes,
    }
    return Signals(current=current, in_flight=in_flight, **values)


def deviations(state: State) -> float:
    assert state.learned is not None
    return state.learned.headroom.deviations


NOBODY = Shadows.begun(4, 0.0)


def begun(surplus: float = 0.0, **changes: Any) -> Headroom:
    return replace(Headroom.begun(30.0, 0.99, 50.0, 0.0), surplus=surplus, **changes)


def test_the_longer_a_start_takes_the_safer_the_beginning():
    starts = [
        Headroom.begun(seconds, 0.99, 50.0, 0.0).deviations for seconds in (0.0, 30.0, 120.0, 300.0, 3000.0)
    ]
    assert starts == sorted(starts)
    assert 0.0 < starts[0] < 1.0 < starts[2] < starts[-1]
    assert starts[-1] <= max(CANDIDATES)


def test_a_bad_period_that_replicas_do_not_explain_adds_much_and_a_good_one_takes_little_away():
    bad = begun(1.0).corrected(0.5, 20.0, NOBODY, now=60.0, **SETTINGS)
    good = begun(1.0).corrected(0.0, 20.0, NOBODY, now=60.0, **SETTINGS)
    assert bad.surplus == pytest.approx(1.0 + 0.2 * (0.5 - AIM_SHARE * 0.01))
    assert good.surplus == pytest.approx(1.0 - 0.2 * AIM_SHARE * 0.01)
    assert bad.deviations > good.deviations


def test_lateness_while_all_replicas_are_full_is_left_to_the_shadows():
    full = begun()
    for look in range(60):
        full = full.looked(True, 5.0 if look else 0.0)
    bad = full.corrected(0.5, 20.0, NOBODY, now=60.0, **SETTINGS)
    assert bad.surplus == 0.0
    assert bad.aim(0.99) < full.aim(0.99)


def test_the_aim_follows_the_error_budget():
    spent, spared = begun(), begun()
    for minute in range(1, 600):
        spent = spent.corrected(0.03, 20.0, NOBODY, now=60.0 * minute, **SETTINGS)
        spared = spared.corrected(0.0, 20.0, NOBODY, now=60.0 * minute, **SETTINGS)
    fresh = begun().aim(0.99)
    assert fresh == pytest.approx(AIM_SHARE * 0.01)
    assert 0.0 < spent.aim(0.99) < fresh < spared.aim(0.99)


def test_a_period_without_traffic_teaches_nothing():
    silent = begun().corrected(NoData("no request was finished"), 0.0, NOBODY, now=60.0, **SETTINGS)
    assert silent == replace(begun(), corrected_seconds=60.0)


def test_a_busy_period_counts_for_more_than_a_quiet_one():
    busy = begun(1.0, usual_rps=10.0).corrected(0.5, 15.0, NOBODY, now=60.0, **SETTINGS)
    quiet = begun(1.0, usual_rps=10.0).corrected(0.5, 1.0, NOBODY, now=60.0, **SETTINGS)
    assert busy.surplus > 1.0 + 0.2 * 0.49
    assert 1.0 < quiet.surplus < 1.02


@given(st.floats(0.0, 10.0), st.floats(0.0, 1.0), st.floats(0.0, 100.0))
def test_it_stays_between_its_bounds(surplus: float, missed: float, rate: float):
    bounds = {**SETTINGS, "least": 0.5, "most": 3.0}
    found = begun(surplus, usual_rps=1.0).corrected(missed, rate, NOBODY, now=60.0, **bounds)
    assert 0.5 <= found.deviations <= 3.0


@pytest.mark.parametrize("attainment", [0.9, 0.99])
def test_in_the_long_run_the_unexplained_late_share_is_what_it_aims_at(attainment: float):
    """The guarantee of adaptive conformal control: whatever the error's shape, here a heavy-tailed one."""
    random, headroom, missed_in_all, periods = Random(3), begun(4.0), 0.0, 60_000
    for period in range(periods):
        missed = 1.0 if random.paretovariate(2.5) - 1.0 > headroom.surplus else 0.0
        missed_in_all += missed
        settings = {**SETTINGS, "attainment": attainment, "most": 100.0}
        headroom = headroom.corrected(missed, 20.0, NOBODY, now=60.0 * period, **settings)
    assert missed_in_all / periods == pytest.approx(AIM_SHARE * (1.0 - attainment), rel=0.1)


def run(of: AutoscalingPolicy, minutes: int, signals: Signals, state: State | None = None) -> State:
    now = 0.0 if state is None or state.learned is None else state.learned.headroom.corrected_seconds
    for _ in range(minutes * 12):
        now += 5.0
        state = decide(of, signals, state, now).state
    assert state is not None
    return state


def test_it_learns_once_a_period_however_often_it_looks():
    state = run(policy(), 10, serving(10, 100.0, slo_missed=0.1))
    assert state.learned is not None
    assert state.learned.headroom.surplus == pytest.approx(9 * 0.2 * (0.1 - 0.008), rel=0.2)


@pytest.mark.parametrize(
    "hopeless",
    [
        {"unschedulable": 3, "ready": 47},
        {"placeable": 30, "current": 30, "ready": 30},
        {"current": 50, "ready": 50},
        {"in_flight": OUTAGE},
        {"other_writer": "HorizontalPodAutoscaler n/llm"},
    ],
)
def test_misses_that_no_replica_could_have_prevented_teach_nothing(hopeless: dict[str, Any]):
    before = run(policy(), 2, serving(20, 300.0))
    values: dict[str, Any] = {"current": 50, "in_flight": 900.0, "slo_missed": 1.0, **hopeless}
    current, in_flight = values.pop("current"), values.pop("in_flight")
    after = run(policy(), 20, serving(current, in_flight, **values), before)
    assert deviations(after) <= deviations(before)
    echo = run(policy(), 1, serving(20, 300.0, slo_missed=1.0), after)
    assert deviations(echo) <= deviations(before)


def test_more_headroom_means_more_replicas_for_the_same_load():
    calm = run(policy(), 2, serving(12, 160.0))
    burnt = run(policy(), 20, serving(12, 160.0, slo_missed=0.3))
    signals = serving(12, 160.0)
    assert (
        decide(policy(), signals, calm, 5000.0).replicas < decide(policy(), signals, burnt, 5000.0).replicas
    )


def test_the_reason_tells_the_load_the_spare_and_the_objective():
    decision = decide(policy(), serving(4, 160.0), None, 0.0)
    assert decision.reasons[0].code == reasons.IN_FLIGHT_NEEDS_MORE
    assert "160 requests in flight" in decision.reasons[0].sentence
    assert "spare for 0.99 in time" in decision.reasons[0].sentence


def test_without_an_objective_nothing_is_learned():
    state = run(policy(slo=None), 10, serving(10, 100.0, slo_missed=1.0))
    assert state.learned is None
    assert state.headroom == 0.0
    assert state.remembered() == ""


def test_the_share_of_a_replica_is_learned_where_the_policy_does_not_give_it():
    learning = policy(inFlight=None, slo={"latencySeconds": 6.0})
    first = decide(learning, serving(4, 60.0), None, 0.0)
    assumed = "at 16 a replica (until it is learned from the tokens that the server counts)"
    assert assumed in first.reasons[0].sentence
    state: State | None = first.state
    for minute in range(40):
        running = 40.0 + 20.0 * (minute % 3)
        told = 0.012 + 0.0008 * running / 4
        signals = serving(4, running, tokens_out=200.0, token_seconds=told, service_seconds=201.0 * told)
        state = decide(learning, signals, state, 60.0 * minute).state
    assert state is not None
    assert state.learned is not None
    assert state.learned.per_replica is not None
    assert 12.0 < state.learned.per_replica < 22.3
    decision = decide(learning, serving(4, 60.0), state, 2500.0)
    assert "(learned from the server)" in decision.reasons[0].sentence


def test_silent_pods_are_taken_to_carry_what_the_others_carry():
    full = decide(policy(), serving(10, 200.0), None, 0.0)
    partly = decide(policy(), serving(10, 160.0, silent=2), None, 0.0)
    assert partly.replicas == full.replicas


def test_the_direction_turns_at_most_six_times_an_hour():
    changes, state, current, before = 0, None, 4, 0
    for look in range(720 * 4):
        now = 5.0 * look
        load = 600.0 if (now // 360) % 2 else 30.0  # up for six minutes, down for six
        decision = decide(policy(), serving(current, load), state, now)
        state = decision.state
        way = (decision.replicas > current) - (decision.replicas < current)
        changes += bool(way and before and way != before)
        before, current = way or before, decision.replicas
    assert 6 <= changes <= 6 * 4 + 1
