"""One simulation: many runs over the same demand, each steered by a policy.

A policy looks every ``period_seconds`` at the newest scrape that is at least ``metric_delay_seconds`` old and
sets the replicas; starting and draining replicas count as provisioned. All runs begin with the replicas that
the first minutes need, ready. Deterministic for a demand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from simulator.autoscaling_demand import Demand, Ints
from simulator.autoscaling_faults import Faults
from simulator.autoscaling_fleet import WATCH_SECONDS, Fleet
from simulator.autoscaling_policy import Autoscaler, Bounds, Metrics, Seen, clamped, whole
from simulator.autoscaling_server import ServerModel
from simulator.autoscaling_trace import Floats

PROMETHEUS_SECONDS = 15.0
SECOND_WRITER = "a HorizontalPodAutoscaler"


@dataclass(frozen=True, slots=True)
class Steered:
    """A policy and the runs that it steers: from ``first`` on, so many as it has values."""

    policy: Autoscaler
    first: int
    runs: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One value a run. ``attainment`` is a share of all requests; ``recovery_seconds`` the longest time in a
    row out of the objective, in whole minutes.
    """

    attainment: Floats
    gpu_hours: Floats
    reversals_per_hour: Floats
    wasted_gpu_hours: Floats
    killed_before_serving: Floats
    recovery_seconds: Floats


class _Watcher:
    """The misses and answers of the last minute, from what Prometheus scraped."""

    def __init__(self, runs: int) -> None:
        nothing = np.zeros(runs)
        self._past: deque[tuple[Floats, Floats, Floats]] = deque([(nothing, nothing, nothing)])
        self.missed = np.full(runs, np.nan)
        self.served_rps = np.zeros(runs)

    def scrape(self, fleet: Fleet) -> None:
        taken, missed = fleet.taken.copy(), fleet.missed
        finished = taken - fleet.refused - fleet.in_service
        self._past.append((taken, missed, finished))
        while len(self._past) > WATCH_SECONDS / PROMETHEUS_SECONDS + 1:
            self._past.popleft()
        answers = taken - self._past[0][0]
        share = np.divide(
            missed - self._past[0][1], answers, out=np.full_like(taken, np.nan), where=answers > 0.0
        )
        self.missed = share
        spent = PROMETHEUS_SECONDS * (len(self._past) - 1)
        self.served_rps = np.maximum(finished - self._past[0][2], 0.0) / spent


def first_replicas(demand: Demand, bounds: Bounds, startup_seconds: float) -> Ints:
    """What each seed needs until a replica asked for at the beginning could serve."""
    until = max(1, round(startup_seconds / demand.step_seconds))
    needed = demand.needed[:until].max(axis=0) / bounds.slots
    return clamped(whole(needed), bounds)


def simulate(
    demand: Demand,
    server: ServerModel,
    fleet: Fleet,
    steered: Sequence[Steered],
    faults: Faults,
    *,
    metric_delay_seconds: float = 0.0,
    second_writer: Autoscaler | None = None,
) -> Outcome:
    """Run ``fleet`` through the demand; ``second_writer`` writes in all runs while that fault lasts."""
    dt, steps = demand.step_seconds, demand.steps
    watcher = _Watcher(len(fleet.ready))
    eyes = [_Eyes(one, dt, metric_delay_seconds) for one in steered]
    second = None
    if second_writer is not None:
        second = _Eyes(Steered(second_writer, 0, len(fleet.ready)), dt, metric_delay_seconds)
    every = max(1, round(PROMETHEUS_SECONDS / dt))
    for step in range(steps):
        fleet.step(step)
        now = (step + 1) * dt
        if (step + 1) % every == 0:
            watcher.scrape(fleet)
        for eye in eyes:
            if (step + 1) % eye.scrape_steps == 0:
                eye.scrape(_metrics(fleet, demand, server, watcher, eye.runs, step), fleet, faults, now)
        writer = None
        if faults.names:
            if faults.restarts(now, dt):
                for one in steered:
                    one.policy.restarted()
            if second is not None and faults.second_writer(now):
                writer = SECOND_WRITER
                if (step + 1) % second.scrape_steps == 0:
                    second.scrape(
                        _metrics(fleet, demand, server, watcher, second.runs, step), fleet, faults, now
                    )
                if (step + 1) % second.period_steps == 0:
                    second.act(fleet, step, now, None)
        for eye in eyes:
            if (step + 1) % eye.period_steps == 0:
                eye.act(fleet, step, now, writer)
    return _outcome(fleet, demand)


class _Eyes:
    """What one policy can see, and when."""

    def __init__(self, steered: Steered, dt: float, delay_seconds: float) -> None:
        self.steered = steered
        self.runs = slice(steered.first, steered.first + steered.runs)
        self.scrape_steps = max(1, round(steered.policy.scrape_seconds / dt))
        self.period_steps = max(1, round(steered.policy.period_seconds / dt))
        self._delay = delay_seconds
        self._scraped: deque[tuple[float, Metrics]] = deque()
        self._unknown = Metrics.unknown(steered.runs)

    def scrape(self, metrics: Metrics, fleet: Fleet, faults: Faults, now: float) -> None:
        if faults.names:
            metrics = faults.on_metrics(metrics, fleet.ready[self.runs])
            if faults.prometheus_down(now):
                there = metrics if self.steered.policy.direct else self._unknown
                metrics = replace(
                    self._unknown, in_flight=there.in_flight, waiting=there.waiting, silent=metrics.silent
                )
        self._scraped.append((now, metrics))
        while len(self._scraped) > 1 and self._scraped[1][0] <= now - self._delay:
            self._scraped.popleft()

    def act(self, fleet: Fleet, step: int, now: float, second_writer: str | None) -> None:
        """Decide."""
        seen = self._look(fleet, now, second_writer)
        fleet.scale(step, self.steered.first, self.steered.policy.decide(seen, now))

    def _look(self, fleet: Fleet, now: float, second_writer: str | None) -> Seen:
        metrics = self._unknown
        for at, scraped in self._scraped:
            if at <= now - self._delay:
                metrics = scraped
        ready, starting = fleet.ready[self.runs], fleet.starting[self.runs]
        return Seen(ready + starting, ready.copy(), starting.copy(), metrics, second_writer)


def _metrics(
    fleet: Fleet, demand: Demand, server: ServerModel, watcher: _Watcher, runs: slice, step: int
) -> Metrics:
    in_service, waiting = fleet.in_service[runs], fleet.arrived[runs] - fleet.taken[runs]
    serving = np.maximum(fleet.ready[runs] + fleet.draining[runs], 1)
    batch = in_service / serving
    return Metrics(
        in_flight=in_service + waiting,
        waiting=waiting,
        # A kernel runs whenever a request is there: the share of time with one or more, arrivals at random.
        gpu_utilisation=-np.expm1(-batch),
        kv_usage=np.minimum(1.0, batch * demand.kv_tokens[step] / server.kv_cache_tokens),
        slo_missed=watcher.missed[runs],
        served_rps=watcher.served_rps[runs],
        silent=np.zeros(len(batch), dtype=np.int64),
    )


def _outcome(fleet: Fleet, demand: Demand) -> Outcome:
    missed = fleet.missed + fleet.waiting
    return Outcome(
        attainment=1.0 - missed / np.maximum(fleet.arrived, 1e-9),
        gpu_hours=fleet.gpu_seconds / 3600.0,
        reversals_per_hour=fleet.reversals / demand.hours,
        wasted_gpu_hours=fleet.wasted_seconds / 3600.0,
        killed_before_serving=fleet.killed_starting.astype(np.float64),
        recovery_seconds=fleet.longest_bad.astype(np.float64) * WATCH_SECONDS,
    )
