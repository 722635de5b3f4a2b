"""How requests in service finish, for many runs at once: by a rate, or one by one.

All replicas of a run share one virtual clock that advances 1/iteration(n) iterations a second; a request
that begins at V ends at V + work. With exponential work (``FluidWork``) a step lets the share 1 −
exp(−ΔV/mean) of what is in service finish. With a list of requests (``RequestWork``) each gets its own end
on the virtual clock, kept in a ring of bins as wide as a few iterations.

Requests begin all through a step, not at its end: of exponential work the share (1 − exp(−x))/x of those
begun in a step is left at its end, with x = ΔV/mean, and a full fleet ends slots·x in a step as it should;
a request of a list begins on the virtual clock when it came, or in the middle of the step when it had
waited.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from simulator.autoscaling_demand import Demand, Ints, Requests
from simulator.autoscaling_policy import between
from simulator.autoscaling_trace import Floats

_BIN_ITERATIONS = 2.0


class Work(Protocol):
    """Begins and ends requests; arrays hold one value a run. ``kept`` is the share of the requests begun in a
    step that is still in service at its end.
    """

    kept: Floats

    def finished(self, step: int, in_service: Floats, iterations: Floats) -> Floats:
        """How many end while the virtual clock moves on by ``iterations``."""
        ...

    def begun(self, step: int, before: Floats, after: Floats) -> Floats:
        """Begin the requests number ``before`` to ``after`` of each run; return how many of them are late."""
        ...


class FluidWork:
    """Requests without a face: exponential work, FIFO by cumulated counts."""

    def __init__(self, demand: Demand, rows: Ints) -> None:
        self._demand, self._rows = demand, rows
        self.kept = np.ones(len(rows))

    def finished(self, step: int, in_service: Floats, iterations: Floats) -> Floats:
        passed = iterations / self._demand.work[step]
        share = -np.expm1(-passed)
        self.kept = share / passed
        ended: Floats = in_service * share
        return ended

    def begun(self, step: int, before: Floats, after: Floats) -> Floats:
        patience = float(self._demand.patience[step])
        latest = step + 0.5 - patience if patience > 0.0 else step + 1.0
        if latest <= 0.0:
            return np.zeros_like(after)
        whole = int(latest)
        share = latest - whole
        came = self._demand.arrived[whole]
        if share > 0.0:
            came = came + share * (self._demand.arrived[whole + 1] - came)
        return between(came.take(self._rows) - before, 0.0, after - before)


class RequestWork:
    """Requests one by one, in order of arrival."""

    def __init__(self, demand: Demand, requests: Requests, rows: Ints, fastest_seconds: float) -> None:
        self._requests, self._first = requests, requests.first[rows]
        # So many bins may pass in one step at the most.
        self._passing = np.arange(1, math.ceil(demand.step_seconds / fastest_seconds / _BIN_ITERATIONS) + 2)
        self._bins = math.ceil(float(requests.work.max()) / _BIN_ITERATIONS) + len(self._passing) + 2
        self._ends = np.zeros((len(rows), self._bins))
        self._flat = self._ends.reshape(-1)
        self._base = np.arange(len(rows)) * self._bins
        self._clock, self._passed = np.zeros(len(rows)), np.zeros(len(rows))
        self.kept = np.ones(len(rows))

    def finished(self, step: int, in_service: Floats, iterations: Floats) -> Floats:
        old = (self._clock / _BIN_ITERATIONS).astype(np.int64)
        self._clock += iterations
        self._passed = iterations
        passed = (self._clock / _BIN_ITERATIONS).astype(np.int64) - old
        bins = self._base[:, None] + (old[:, None] + self._passing) % self._bins
        ending = np.where(self._passing <= passed[:, None], self._flat[bins], 0.0)
        self._flat[bins] -= ending
        ended: Floats = ending.sum(axis=1)
        return ended

    def begun(self, step: int, before: Floats, after: Floats) -> Floats:
        late = np.zeros_like(after)
        counts = (after - before).astype(np.int64)
        total = int(counts.sum())
        if not total:
            return late
        runs = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        which = (self._first + before.astype(np.int64))[runs] + within
        at = self._requests.at_steps[which]
        before_end = np.where(at >= step, step + 1.0 - at, 0.5)
        ends = self._clock[runs] - before_end * self._passed[runs] + self._requests.work[which]
        bins = np.maximum(
            np.rint(ends / _BIN_ITERATIONS).astype(np.int64),
            (self._clock[runs] / _BIN_ITERATIONS).astype(np.int64) + 1,
        )
        np.add.at(self._flat, self._base[runs] + bins % self._bins, 1.0)
        waited = np.where(at >= step, 0.0, step + 0.5 - at)
        too_late = waited > self._requests.patience_steps[which]
        hopeless = self._requests.patience_steps[which] <= 0.0
        np.add.at(late, runs, (too_late | hopeless).astype(np.float64))
        return late


def work_of(demand: Demand, rows: Ints, fastest_seconds: float) -> Work:
    """The kind that ``demand`` asks for; ``rows`` says which seed a run follows."""
    if demand.requests is None:
        return FluidWork(demand, rows)
    return RequestWork(demand, demand.requests, rows, fastest_seconds)
