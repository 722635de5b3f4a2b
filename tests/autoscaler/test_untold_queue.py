"""Servers that do not tell how many requests wait: those beyond what the replicas serve at a time do."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from autoscaler.decide import decide
from autoscaler.state import State
from cluster.autoscaling_policy import AutoscalingPolicy
from metrics.samples import NoData
from tests.autoscaler.decisions import policy, serving

SLO = {"attainment": 0.95, "latencySeconds": 1.0, "measure": "e2e"}
SMALL = {"inFlight": {"perReplica": 2.0}, "slo": SLO, "maxReplicas": 9}
PER_REPLICA = 10.0
LARGE = policy(
    inFlight={"perReplica": PER_REPLICA},
    slo={"attainment": 0.99, "latencySeconds": 10.0, "measure": "e2e"},
    maxReplicas=100,
)
LOOK_SECONDS = 2.0
RATE_LOOKS = 30
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


@pytest.mark.parametrize(("in_flight", "enough"), [(4.0, False), (10.0, True)])
def test_a_shortage_is_answered_at_once_and_chance_is_not(in_flight: float, enough: bool):
    of = policy(**SMALL, scaleUp={"maxStepReplicas": 9})
    state, now = calm(of)
    assert (decide(of, serving(1, in_flight, request_rate=RATE), state, now + 0.5).replicas > 1) == enough


@dataclass
class Server:
    """Replicas that serve ``at_a_time`` requests each, for ``service_seconds``, and start within
    ``start_seconds``; what they do not serve piles up. A fluid.
    """

    start_seconds: float
    service_seconds: float = 5.0
    at_a_time: float = PER_REPLICA
    ready: int = 1
    in_flight: float = 0.0
    starts: list[float] = field(default_factory=list)
    finished: deque[float] = field(default_factory=lambda: deque(maxlen=RATE_LOOKS))

    def run(self, rate: float, now: float, of: AutoscalingPolicy, state: State | None) -> tuple[State, int]:
        """One look and one decision; the rate of finished requests is a mean over a minute."""
        self.ready += sum(1 for start in self.starts if start <= now)
        self.starts = [start for start in self.starts if start > now]
        done = min(self.in_flight, self.ready * self.at_a_time) / self.service_seconds * LOOK_SECONDS
        self.in_flight += rate * LOOK_SECONDS - done
        self.finished.append(done / LOOK_SECONDS)
        current = self.ready + len(self.starts)
        seen = serving(
            current,
            self.in_flight,
            ready=self.ready,
            starting=len(self.starts),
            request_rate=sum(self.finished) / len(self.finished),
            cold_start_seconds=self.start_seconds,
        )
        decision = decide(of, seen, state, now)
        more = decision.replicas - current
        self.starts += [now + self.start_seconds] * more
        self.ready += min(0, more)
        return decision.state, decision.replicas


def stepped(server: Server, seconds: float, of: AutoscalingPolicy, *, rate: float = 8.0) -> list[int]:
    """The replicas after each look since the step from 6 to ``rate`` requests a second."""
    state, counts = None, []
    for look in range(int((1800.0 + seconds) / LOOK_SECONDS)):
        now = look * LOOK_SECONDS
        state, replicas = server.run(1.2 if now < 1800.0 else rate, now, of, state)
        if now >= 1800.0:
            counts.append(replicas)
    return counts


@pytest.mark.parametrize(("start_seconds", "most"), [(30.0, 15), (120.0, 20), (300.0, 20)])
def test_what_piles_up_while_replicas_start_is_cleared_and_not_asked_for_as_load(
    start_seconds: float, most: int
):
    server = Server(start_seconds)
    counts = stepped(server, 4.0 * start_seconds, LARGE)
    # The arrivals alone take four; what has piled up when the first of them serves is worth 18 to 180.
    assert 4 <= max(counts) <= most
    assert server.in_flight <= 4.1 * PER_REPLICA


def test_a_server_that_serves_more_at_a_time_than_stated_still_gets_the_replicas_stated():
    counts = stepped(Server(60.0, at_a_time=1000.0), 600.0, LARGE)
    assert counts[-1] >= 4


def test_requests_that_have_become_longer_are_not_taken_for_a_queue_for_ever():
    server = Server(60.0, at_a_time=1000.0)
    state = None
    for look in range(900):
        state, _ = server.run(1.2, look * LOOK_SECONDS, LARGE, state)
    server.service_seconds = 40.0
    for look in range(900, 1500):
        state, replicas = server.run(1.2, look * LOOK_SECONDS, LARGE, state)
    # 48 in flight that all are served: five replicas by what the policy says.
    assert replicas >= 5


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
