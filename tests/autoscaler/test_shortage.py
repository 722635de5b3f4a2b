"""A queue that stands: answered for what is expected to last, and in full once it outlasts a start-up."""

from __future__ import annotations

from dataclasses import replace

from autoscaler.decide import Decision, decide
from autoscaler.signals import Signals
from autoscaler.state import State
from cluster.autoscaling_policy import AutoscalingPolicy

START_SECONDS = 60.0
POLICY = AutoscalingPolicy.model_validate(
    {
        "target": {"name": "llm"},
        "maxReplicas": 100,
        "inFlight": {"perReplica": 16.0},
        "slo": {"latencySeconds": 2.0, "measure": "ttft"},
    }
)


def look(state: State | None, now: float, in_flight: float, waiting: float) -> Decision:
    signals = Signals(
        current=4,
        ready=4,
        in_flight=in_flight,
        waiting=waiting,
        request_rate=8.0,
        slo_missed=0.0,
        cold_start_seconds=START_SECONDS,
    )
    return decide(POLICY, signals, state, now)


def calm(persistence: float) -> State:
    """Ten minutes of 40 in flight, on a load of which so much is known to last."""
    state: State | None = None
    for step in range(120):
        state = look(state, 5.0 * step, 40.0, 0.0).state
    assert state is not None
    assert state.learned is not None
    forecast = replace(
        state.learned.forecast, distance=1.0, lasting=persistence, judged_seconds=1e9, looks=()
    )
    return replace(state, learned=replace(state.learned, forecast=forecast))


def queued(state: State, looks: int) -> Decision:
    """``looks`` looks at 400 in flight, of which 336 wait."""
    decision = look(state, 600.0, 400.0, 336.0)
    for step in range(1, looks):
        decision = look(decision.state, 600.0 + 5.0 * step, 400.0, 336.0)
    return decision


def test_a_burst_of_a_kind_that_never_lasted_is_not_answered_with_replicas_for_all_of_it():
    lasting, passing = queued(calm(1.0), 2), queued(calm(0.0), 2)
    assert passing.replicas < lasting.replicas


def test_one_that_outlasts_a_start_up_is_answered_in_full():
    whole = queued(calm(1.0), 20)
    waited = queued(calm(0.0), 20)
    assert waited.replicas > queued(calm(0.0), 2).replicas
    assert waited.replicas >= whole.replicas - 1


def test_it_is_over_when_nobody_waits():
    after = look(queued(calm(0.0), 20).state, 800.0, 40.0, 0.0)
    assert after.state.learned is not None
    assert after.state.learned.short_since_seconds is None
