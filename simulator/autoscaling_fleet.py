"""Replicas, their queue and their GPUs in many runs at once: the plant that the policies steer.

A step: replicas whose start-up is over become ready; requests in service finish; requests that waited too
long are refused; the ready replicas' free slots take the longest waiting (one first-in-first-out queue
before all replicas, as at a gateway). A replica holds its GPU from its creation to its end: through its
start-up, and through ``drain_seconds`` after its deletion if it had served (what it has not finished by
then goes to the survivors). Deleted are the newest starting ones first.

Counts what an autoscaler is judged by. Does not model nodes: a replica that is asked for gets a GPU at once.
"""

from __future__ import annotations

import numpy as np

from simulator.autoscaling_demand import Demand, Ints
from simulator.autoscaling_server import ServerModel
from simulator.autoscaling_trace import Floats
from simulator.autoscaling_work import work_of

WATCH_SECONDS = 60.0
# A minute in which more than this share of the answers was late is a minute out of the objective.
BAD_SHARE = 0.01
# Stands for no requests where they divide.
_LEAST = np.nextafter(0.0, 1.0)


class Fleet:
    """One value a run in every array; replicas are whole numbers."""

    def __init__(
        self, demand: Demand, server: ServerModel, rows: Ints, startup_seconds: Floats, replicas: Ints
    ) -> None:
        self._demand, self._server, self._rows = demand, server, rows
        self._work = work_of(demand, rows, server.base_seconds)
        dt, runs = demand.step_seconds, len(rows)
        self.startup_steps = np.maximum(1, np.rint(startup_seconds / dt)).astype(np.int64)
        self._drain_steps = round(server.drain_seconds / dt)
        self._timeout_steps = max(1, round(server.queue_timeout_seconds / dt))
        self._watch_steps = max(1, round(WATCH_SECONDS / dt))
        self._ring = int(max(self.startup_steps.max(), self._drain_steps)) + 1
        self._coming = np.zeros((self._ring, runs), dtype=np.int64)
        self._leaving = np.zeros((self._ring, runs), dtype=np.int64)
        self.ready = replicas.copy()
        self.starting, self.draining = np.zeros_like(replicas), np.zeros_like(replicas)
        self.in_service, self._on_draining = np.zeros(runs), np.zeros(runs)
        self.taken = np.zeros(runs)
        """Requests that have left the queue: begun or refused."""
        self.arrived = np.zeros(runs)
        self.late, self.refused = np.zeros(runs), np.zeros(runs)
        self.gpu_seconds, self.wasted_seconds = np.zeros(runs), np.zeros(runs)
        self.killed_starting = np.zeros(runs, dtype=np.int64)
        self.reversals = np.zeros(runs, dtype=np.int64)
        self._direction = np.zeros(runs, dtype=np.int64)
        self._watched = (np.zeros(runs), np.zeros(runs))
        self._bad, self.longest_bad = np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64)

    @property
    def replicas(self) -> Ints:
        """``spec.replicas``: ready and starting."""
        return self.ready + self.starting

    @property
    def waiting(self) -> Floats:
        """Requests in the queue."""
        return self.arrived - self.taken

    @property
    def missed(self) -> Floats:
        """Late and refused so far."""
        return self.late + self.refused

    def step(self, step: int) -> None:
        """Let one step of time pass."""
        dt, slot = self._demand.step_seconds, step % self._ring
        self._turn_over(slot)
        serving = self.ready + self.draining
        batch = self.in_service / np.maximum(serving, 1)
        iterations = dt / (self._server.base_seconds + self._demand.slope[step] * batch)
        ended = self._work.finished(step, self.in_service, iterations) * (serving > 0)
        if np.count_nonzero(self.draining):
            gone = ended / np.maximum(self.in_service, _LEAST)
            self._on_draining *= (1.0 - gone) * (self.draining > 0)
        else:
            self._on_draining[:] = 0.0
        self.in_service = np.maximum(self.in_service - ended, 0.0)
        self.arrived = self._demand.arrived[step + 1].take(self._rows)
        if step >= self._timeout_steps:
            waited_out = self._demand.arrived[step + 1 - self._timeout_steps].take(self._rows) - self.taken
            if waited_out.max() > 0.0:
                refused = np.maximum(waited_out, 0.0)
                self.refused += refused
                self.taken += refused
        free = (self.ready * self._server.slots - (self.in_service - self._on_draining)) / self._work.kept
        if self._demand.requests is not None:
            free = np.floor(free + 1e-9)
        after = np.minimum(self.arrived, self.taken + np.maximum(free, 0.0))
        self.late += self._work.begun(step, self.taken, after)
        self.in_service += (after - self.taken) * self._work.kept
        self.taken = after
        self.gpu_seconds += (serving + self.starting) * dt
        if (step + 1) % self._watch_steps == 0:
            self._watch()

    def scale(self, step: int, first: int, wanted: Ints) -> None:
        """Set the replicas of the runs from ``first`` on to ``wanted``; takes effect after ``step``."""
        scaled = slice(first, first + len(wanted))
        change = wanted - self.ready[scaled] - self.starting[scaled]
        (places,) = change.nonzero()
        if not len(places):
            return
        by, runs = change[places], places + first
        direction = np.sign(by)
        self.reversals[runs] += self._direction[runs] == -direction
        self._direction[runs] = direction
        rises = by > 0
        more = runs[rises]
        self.starting[more] += by[rises]
        self._coming[(step + self.startup_steps[more]) % self._ring, more] += by[rises]
        self._remove(step, runs[~rises], -by[~rises])

    def unfinished(self) -> Floats:
        """Requests that nobody has begun by now: misses when the trace is over."""
        return self.waiting

    def _turn_over(self, slot: int) -> None:
        come, gone = self._coming[slot], self._leaving[slot]
        if np.count_nonzero(come):
            self.ready += come
            self.starting -= come
            come[:] = 0
        if np.count_nonzero(gone):
            self.draining -= gone
            gone[:] = 0

    def _remove(self, step: int, runs: Ints, counts: Ints) -> None:
        """Delete ``counts`` replicas of ``runs``: the newest starting ones, then ready ones, which drain."""
        for place in self.starting[runs].nonzero()[0].tolist():
            counts[place] -= self._kill_starting(step, int(runs[place]), int(counts[place]))
        counts = np.minimum(counts, self.ready[runs])
        if self._drain_steps:
            share = counts / np.maximum(self.ready[runs], 1)
            self._on_draining[runs] += share * (self.in_service[runs] - self._on_draining[runs])
            self.draining[runs] += counts
            self._leaving[(step + self._drain_steps) % self._ring, runs] += counts
        self.ready[runs] -= counts

    def _kill_starting(self, step: int, run: int, count: int) -> int:
        """Delete up to ``count`` starting replicas of one run, the newest first; return how many."""
        left = count
        (slots,) = self._coming[:, run].nonzero()
        for later in sorted(((slots - step) % self._ring).tolist(), reverse=True):
            slot = (step + later) % self._ring
            killed = min(left, int(self._coming[slot, run]))
            self._coming[slot, run] -= killed
            self.starting[run] -= killed
            self.killed_starting[run] += killed
            age = (self.startup_steps[run] - later) * self._demand.step_seconds
            self.wasted_seconds[run] += killed * age
            left -= killed
        return count - left

    def _watch(self) -> None:
        taken, missed = self.taken - self._watched[0], self.missed - self._watched[1]
        bad = (missed > BAD_SHARE * taken) | ((taken <= 0.0) & (self.waiting > 0.0))
        self._bad = np.where(bad, self._bad + 1, 0)
        self.longest_bad = np.maximum(self.longest_bad, self._bad)
        self._watched = (self.taken.copy(), self.missed.copy())
