"""What holds of every decision, whatever the policy and the signals."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decide import decide
from autoscaler.reasons import CODES
from autoscaler.signals import Signals
from autoscaler.state import Raise, State
from autoscaler.windows import Windows
from cluster.policy import AutoscalingPolicy
from metrics.samples import NoData

NOW = 50_000.0
absent = st.builds(NoData, st.sampled_from(["connection refused", "no series", "not a number"]))
shares = st.floats(0.0, 1.0)
loads = st.floats(0.0, 3000.0)


@st.composite
def policies(draw: st.DrawFn) -> AutoscalingPolicy:
    low = draw(st.integers(0, 10))
    high = draw(st.integers(max(low, 1), 60))
    section = st.fixed_dictionaries({"scaleDownBelow": st.one_of(st.none(), st.just(0.5))})
    latency = st.fixed_dictionaries({"p95Seconds": st.floats(0.1, 10.0)})
    return AutoscalingPolicy.model_validate(
        {
            "target": {"name": "llm"},
            "minReplicas": low,
            "maxReplicas": high,
            "inFlight": {"perReplica": draw(st.floats(0.5, 64.0))},
            "latency": draw(st.one_of(st.none(), latency)),
            "gpuUtilisation": draw(st.one_of(st.none(), section)),
            "scaleUp": {
                "tolerance": draw(shares),
                "stabilisationSeconds": draw(st.floats(0.0, 60.0)),
                "maxStepPercent": draw(st.floats(0.0, 300.0)),
                "maxStepReplicas": draw(st.integers(0, 20)),
            },
            "scaleDown": {
                "tolerance": draw(shares),
                "stabilisationSeconds": draw(st.floats(0.0, 600.0)),
                "maxStepPercent": draw(st.floats(0.0, 100.0)),
                "maxStepReplicas": draw(st.integers(0, 20)),
                "margin": draw(shares),
            },
            "outage": {"fallbackReplicas": draw(st.one_of(st.none(), st.integers(low, high)))},
        }
    )


@st.composite
def sights(draw: st.DrawFn) -> Signals:
    ready, starting, stuck = (draw(st.integers(0, 20)) for _ in range(3))
    return Signals(
        current=ready + starting + stuck,
        ready=ready,
        starting=starting,
        unschedulable=stuck,
        silent=draw(st.integers(0, ready)),
        in_flight=draw(st.one_of(loads, absent)),
        request_rate=draw(st.one_of(loads, absent)),
        p95_seconds=draw(st.one_of(st.floats(0.0, 20.0), absent)),
        gpu_utilisation=draw(st.one_of(shares, absent)),
        cold_start_seconds=draw(st.one_of(st.floats(0.0, 600.0), absent)),
    )


@st.composite
def states(draw: st.DrawFn) -> State:
    ages = draw(st.lists(st.floats(0.0, 700.0), min_size=1, max_size=5))
    windows = Windows.begun_with(draw(st.integers(0, 60)), NOW - max(ages))
    for age in sorted(ages, reverse=True)[1:]:
        windows = windows.seen(draw(st.integers(0, 60)), NOW - age, lower_seconds=600.0, raise_seconds=60.0)
    raised = st.builds(Raise, st.floats(NOW - 700.0, NOW), loads)
    return State(
        windows,
        last_raise=draw(st.one_of(st.none(), raised)),
        last_lower_seconds=draw(st.one_of(st.none(), st.floats(NOW - 700.0, NOW))),
        blind_since_seconds=draw(st.one_of(st.none(), st.floats(NOW - 2000.0, NOW))),
    )


maybe_states = st.one_of(st.none(), states())


@given(policies(), sights(), maybe_states)
def test_a_decision_stays_between_the_bounds_and_gives_its_reasons(
    policy: AutoscalingPolicy, signals: Signals, state: State | None
):
    decision = decide(policy, signals, state, NOW)
    if signals.current:
        assert max(policy.min_replicas, 1) <= decision.replicas <= policy.max_replicas
    else:
        assert decision.replicas == 0
    assert decision.reasons
    assert {r.code for r in decision.reasons} <= set(CODES)
    assert all(r.sentence and "\n" not in r.sentence for r in decision.reasons)


@given(policies(), sights(), maybe_states)
def test_the_same_input_gives_the_same_decision(
    policy: AutoscalingPolicy, signals: Signals, state: State | None
):
    assert decide(policy, signals, state, NOW) == decide(policy, signals, state, NOW)


@given(policies(), sights(), maybe_states, loads, loads)
def test_more_in_flight_never_means_fewer_replicas(
    policy: AutoscalingPolicy, signals: Signals, state: State | None, one: float, other: float
):
    fewer, more = sorted((one, other))
    low = decide(policy, replace(signals, in_flight=fewer), state, NOW)
    high = decide(policy, replace(signals, in_flight=more), state, NOW)
    assert low.replicas <= high.replicas


@given(policies(), sights(), maybe_states, absent)
def test_missing_in_flight_never_lowers(
    policy: AutoscalingPolicy, signals: Signals, state: State | None, missing: NoData
):
    decision = decide(policy, replace(signals, in_flight=missing), state, NOW)
    assert decision.replicas >= min(signals.current, policy.max_replicas)


@given(policies(), sights(), maybe_states, absent)
def test_a_missing_latency_never_gives_fewer_replicas_than_a_good_one_under_load(
    policy: AutoscalingPolicy, signals: Signals, state: State | None, missing: NoData
):
    under_load = replace(signals, in_flight=5.0)
    good = decide(policy, replace(under_load, p95_seconds=0.001), state, NOW)
    blind = decide(policy, replace(under_load, p95_seconds=missing), state, NOW)
    assert blind.replicas >= good.replicas


@given(policies(), sights(), states())
def test_replicas_that_start_are_counted_so_the_need_is_never_exceeded_because_of_them(
    policy: AutoscalingPolicy, signals: Signals, state: State
):
    starting = replace(
        signals,
        ready=signals.ready + signals.starting,
        starting=0,
        in_flight=200.0,
        p95_seconds=0.001,
        gpu_utilisation=0.1,
    )
    waiting = replace(starting, ready=signals.ready, starting=signals.starting)
    assert decide(policy, waiting, state, NOW).replicas <= decide(policy, starting, state, NOW).replicas


@given(policies(), sights(), states())
def test_unschedulable_replicas_are_never_asked_for_again(
    policy: AutoscalingPolicy, signals: Signals, state: State
):
    stuck = replace(signals, current=signals.current + 1, unschedulable=signals.unschedulable + 1)
    if not isinstance(stuck.in_flight, NoData):
        assert decide(policy, stuck, state, NOW).replicas <= max(stuck.current, policy.min_replicas)


@given(st.lists(st.tuples(st.floats(0.1, 50.0), st.integers(0, 30)), min_size=1, max_size=40))
def test_the_windows_keep_exactly_the_extremes_of_their_length(steps: list[tuple[float, int]]):
    now, history = 0.0, [(0.0, 7)]
    windows = Windows.begun_with(7, 0.0)
    for gap, replicas in steps:
        now += gap
        history.append((now, replicas))
        windows = windows.seen(replicas, now, lower_seconds=60.0, raise_seconds=20.0)
        assert windows.highest == max(r for at, r in history if at > now - 60.0)
        assert windows.lowest == min(r for at, r in history if at > now - 20.0)
