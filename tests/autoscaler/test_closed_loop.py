"""Decisions fed back into a small serving model whose replicas take time to start: steady load must settle.

The model: ``slots`` requests run at once on a replica, each for ``service_seconds``; the rest wait in one
queue. A fluid model, so that what is tested is the controller and not the arrival noise; noise is added where
it is the subject.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import exp
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.decide import decide
from autoscaler.signals import Signals
from autoscaler.state import State
from cluster.policy import AutoscalingPolicy
from metrics.samples import NoData

PERIOD_SECONDS = 5.0


@dataclass
class Service:
    """Replicas with a start-up time in front of one queue."""

    start_up_seconds: float
    service_seconds: float = 4.0
    slots: float = 16.0
    ready: int = 1
    starting: list[float] = field(default_factory=list)
    in_flight: float = 0.0

    def run(self, arrivals_a_second: float, now: float) -> float:
        """Serve one period and return the requests finished a second."""
        self.ready += sum(1 for at in self.starting if at <= now)
        self.starting = [at for at in self.starting if at > now]
        capacity = self.ready * self.slots
        before = self.in_flight
        for _ in range(int(PERIOD_SECONDS)):
            if self.in_flight > capacity:  # a queue: all slots work, the rest waits
                self.in_flight += arrivals_a_second - capacity / self.service_seconds
            else:  # no queue: relaxes towards arrivals x service time (Little)
                rest = arrivals_a_second * self.service_seconds
                self.in_flight = rest + (self.in_flight - rest) * exp(-1.0 / self.service_seconds)
        return max(0.0, arrivals_a_second - (self.in_flight - before) / PERIOD_SECONDS)

    def scale(self, replicas: int, now: float) -> None:
        """Add replicas that start, or take away the starting ones first."""
        while replicas > self.ready + len(self.starting):
            self.starting.append(now + self.start_up_seconds)
        while replicas < self.ready + len(self.starting):
            if self.starting:
                self.starting.pop()
            else:
                self.ready -= 1

    def signals(self, in_flight: float, rate: float) -> Signals:
        return Signals(
            current=self.ready + len(self.starting),
            ready=self.ready,
            starting=len(self.starting),
            in_flight=in_flight,
            request_rate=rate,
            cold_start_seconds=self.start_up_seconds,
        )


def replay(
    service: Service, policy: AutoscalingPolicy, rates: list[float], *, noise: float = 0.0, seed: int = 0
) -> list[int]:
    """Return the replica count after each period."""
    random, state, counts, now = Random(seed), None, [], 0.0
    for rate in rates:
        finished = service.run(rate, now)
        seen = service.in_flight * (1.0 + random.uniform(-noise, noise))
        state, replicas = step(policy, service.signals(seen, finished), state, now)
        service.scale(replicas, now)
        counts.append(replicas)
        now += PERIOD_SECONDS
    return counts


def step(policy: AutoscalingPolicy, signals: Signals, state: State | None, now: float) -> tuple[State, int]:
    decision = decide(policy, signals, state, now)
    return decision.state, decision.replicas


def reversals(counts: list[int]) -> int:
    """How often the count turned from rising to falling or back."""
    moves = [b - a for a, b in pairwise(counts) if a != b]
    return sum(1 for a, b in pairwise(moves) if (a > 0) != (b > 0))


def steady_policy(**changes: Any) -> AutoscalingPolicy:
    values: dict[str, Any] = {
        "target": {"name": "llm"},
        "maxReplicas": 40,
        "inFlight": {"perReplica": 12.0},
        **changes,
    }
    return AutoscalingPolicy.model_validate(values)


@settings(max_examples=40, deadline=None)
@given(
    start_up_seconds=st.sampled_from([10.0, 30.0, 120.0, 300.0]),
    load=st.floats(0.5, 14.0),
    begun=st.integers(1, 20),
    window=st.sampled_from([0.0, 60.0, 300.0]),
)
def test_a_steady_load_never_oscillates(start_up_seconds: float, load: float, begun: int, window: float):
    service = Service(start_up_seconds, ready=begun)
    arrivals = load * 12.0 / service.service_seconds
    service.in_flight = min(arrivals * service.service_seconds, begun * 12.0)
    policy = steady_policy(scaleDown={"stabilisationSeconds": window})
    counts = replay(service, policy, [arrivals] * 900)
    # A queue that built up while replicas started may be answered and then given back: one turn, no more.
    assert reversals(counts) <= 1
    assert len(set(counts[-360:])) == 1
    assert service.in_flight <= counts[-1] * service.slots


@settings(max_examples=30, deadline=None)
@given(load=st.floats(1.0, 12.0), seed=st.integers(0, 10_000))
def test_noise_of_five_percent_around_a_steady_load_does_not_flap(load: float, seed: int):
    service = Service(60.0, ready=max(1, round(load)))
    arrivals = load * 12.0 / service.service_seconds
    service.in_flight = arrivals * service.service_seconds
    counts = replay(service, steady_policy(), [arrivals] * 900, noise=0.05, seed=seed)
    assert reversals(counts) <= 1
    # A load a hair above n replicas leaves the tolerance only when the noise peaks, and that may be late: one
    # step then is right, a second one would be flapping.
    assert sum(before != after for before, after in pairwise(counts[-360:])) <= 1


def test_a_step_is_followed_up_and_back_down():
    service = Service(60.0, ready=2)
    service.in_flight = 18.0
    low, high = 18.0 / service.service_seconds, 100.0 / service.service_seconds
    counts = replay(service, steady_policy(), [low] * 60 + [high] * 360 + [low] * 360)
    assert counts[59] == 2
    assert max(counts[60:120]) >= 9
    assert counts[-1] == 2
    assert reversals(counts) <= 2


def test_an_outage_at_the_peak_changes_nothing():
    service = Service(60.0, ready=8)
    policy, state = steady_policy(), None
    arrivals = 90.0 / service.service_seconds
    service.in_flight = 90.0
    for period in range(400):
        finished = service.run(arrivals, period * PERIOD_SECONDS)
        signals = service.signals(service.in_flight, finished)
        if 100 <= period < 220:
            dark = NoData("connection refused", "outage")
            signals = Signals(current=signals.current, ready=signals.ready, in_flight=dark)
        state, replicas = step(policy, signals, state, period * PERIOD_SECONDS)
        assert replicas == 8
