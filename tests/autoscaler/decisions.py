"""Policies, signals and states as the tests of single decisions are about them."""

from __future__ import annotations

from typing import Any

from autoscaler.decide import Decision, decide
from autoscaler.signals import Signals
from autoscaler.state import State
from cluster.policy import AutoscalingPolicy
from metrics.samples import NoData

NOW = 10_000.0
OUTAGE = NoData("connection refused", "outage")
NOT_A_NUMBER = NoData("not a number", "not-a-number")


def policy(**changes: Any) -> AutoscalingPolicy:
    """A policy of 16 in flight a replica, 1..50 replicas, the defaults elsewhere."""
    values: dict[str, Any] = {
        "target": {"name": "llm"},
        "minReplicas": 1,
        "maxReplicas": 50,
        "inFlight": {"perReplica": 16.0},
        **changes,
    }
    return AutoscalingPolicy.model_validate(values)


def serving(current: int, in_flight: float | NoData, **changes: Any) -> Signals:
    """A workload whose ``current`` replicas are all ready."""
    values: dict[str, Any] = {"ready": current, "request_rate": 5.0, **changes}
    return Signals(current=current, in_flight=in_flight, **values)


def watched(current: int, now: float = NOW) -> State:
    """A state whose windows hold nothing that is still in force."""
    return State.begun(0, now - 100_000.0)


def settled(of: AutoscalingPolicy, signals: Signals) -> Decision:
    """The decision about a workload that has been watched for long."""
    return decide(of, signals, watched(signals.current), NOW)
