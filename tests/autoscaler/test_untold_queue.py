"""Servers that do not tell how many requests wait: those beyond what the replicas serve at a time do."""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.decide import decide
from autoscaler.state import State
from metrics.samples import NoData
from tests.autoscaler.decisions import policy, serving

SLO = {"attainment": 0.95, "latencySeconds": 1.0, "measure": "e2e"}
SMALL = {"inFlight": {"perReplica": 2.0}, "slo": SLO, "maxReplicas": 9}
RATE = 4.0
CALM = 0.6
"""In flight where four requests a second take 0.15 s each."""


def calm(of: Any, **changes: Any) -> tuple[State, float]:
    """The state after five minutes of one replica that is less than half busy, and the time then."""
    state, now = None, 0.0
    for _ in range(600):
        now += 0.5
        state = decide(of, serving(1, CALM, request_rate=RATE, **changes), state, now).state
    assert state is not None
    return state, now


@pytest.mark.parametrize(("in_flight", "expected"), [(4.0, 1), (10.0, 5)])
def test_a_shortage_is_answered_at_once_and_chance_is_not(in_flight: float, expected: int):
    of = policy(**SMALL, scaleUp={"maxStepReplicas": 9})
    state, now = calm(of)
    assert decide(of, serving(1, in_flight, request_rate=RATE), state, now + 0.5).replicas == expected


def test_what_a_server_tells_of_its_queue_goes_first():
    of = policy(**SMALL, scaleUp={"maxStepReplicas": 9})
    state, now = calm(of, waiting=0.0)
    told = serving(1, 10.0, request_rate=RATE, waiting=0.0)
    # It serves ten at a time, whatever the policy says.
    assert decide(of, told, state, now + 0.5).replicas == 1


def test_where_the_policy_does_not_say_what_a_replica_serves_nothing_is_taken_to_wait():
    of = policy(inFlight=None, slo=SLO, maxReplicas=9)
    state, now = calm(of)
    seen = serving(1, 20.0, request_rate=RATE, tokens_out=NoData("none"))
    assert decide(of, seen, state, now + 0.5).replicas == 1
