"""How many more replicas are expected, and when the scheduler is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.coming_replicas import coming_replicas
from autoscaler.decide import Decision, decide
from autoscaler.forecast_store import differ
from autoscaler.signals import Signals
from cluster.policy import AutoscalingPolicy
from scheduler.packing.forecast import Forecast


def policy(**changes: object) -> AutoscalingPolicy:
    values = {"target": {"name": "llm"}, "maxReplicas": 12, "inFlight": {"perReplica": 10.0}, **changes}
    return AutoscalingPolicy.model_validate(values)


OBJECTIVE = {"slo": {"latencySeconds": 2.0, "measure": "ttft"}}


def seen(current: int, in_flight: float) -> Signals:
    return Signals(current, current, in_flight=in_flight, request_rate=1.0, waiting=0.0, unix_seconds=1e9)


def decided(policy: AutoscalingPolicy, signals: Signals, looks: int = 1) -> Decision:
    state, decision = None, None
    for look in range(looks):
        decision = decide(policy, signals, state, 5.0 * look)
        state = decision.state
    assert decision is not None
    return decision


def test_without_an_objective_only_what_is_wanted_and_missing_is_coming():
    signals = seen(3, 80.0)
    decision = decided(policy(), signals)
    assert decision.replicas == 7  # four more at once
    assert coming_replicas(policy(), signals, decision) == Forecast(4.0)
    calm = seen(8, 80.0)
    assert coming_replicas(policy(), calm, decided(policy(), calm)) == Forecast(0.0)


def test_with_an_objective_the_forecast_and_its_error_count():
    wanted, signals = policy(**OBJECTIVE), seen(6, 60.0)
    decision = decided(wanted, signals, 20)
    coming = coming_replicas(wanted, signals, decision)
    learned = decision.state.learned
    assert learned is not None
    assert coming.mean == max(0.0, decision.replicas - 6)
    assert coming.spread == pytest.approx((learned.forecast.dispersion * 60.0) ** 0.5 / 10.0, rel=0.05)


def test_nothing_is_coming_beyond_the_most():
    wanted, signals = policy(**OBJECTIVE), seen(12, 500.0)
    assert coming_replicas(wanted, signals, decided(wanted, signals)) == Forecast(0.0, 0.0)


def test_what_is_advised_and_not_done_is_coming():
    signals = seen(2, 20.0)
    decision = replace(decided(policy(), signals), replicas=5)
    assert coming_replicas(policy(), signals, decision).mean == 3.0


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"whole:1": Forecast(2.05, 1.0)}, False),
        ({"whole:1": Forecast(2.2, 1.0)}, True),
        ({"whole:1": Forecast(2.0, 1.2)}, True),
        ({"whole:2": Forecast(2.0, 1.0)}, True),
        ({"whole:1": Forecast(2.0, 1.0), "whole:2": Forecast(1.0)}, True),
        ({}, True),
    ],
)
def test_small_changes_are_not_worth_a_write(other: dict[str, Forecast], differs: bool):
    assert differ({"whole:1": Forecast(2.0, 1.0)}, other) == differs
