"""Replay of batch jobs on one grid zone: arrivals, releases, GPUs, carbon, deadlines.

Time goes in steps of half an hour in which arrivals are seen and the policy is asked; jobs begin and end at
any time. Released jobs queue for GPUs, first come first served, and a smaller one may go before a larger
one that does not fit. A job's carbon is its GPUs' added power times the true intensity while it runs. Ends
teach ``Durations`` what a real controller would see. Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from autoscaler.batch.curve import HOUR_SECONDS, Curve, Floats
from autoscaler.batch.durations import Durations
from autoscaler.batch.work import HeldJob, Pool
from metrics.samples import NoData
from simulator.batch_policy import ZONE, BatchPolicy, Sight
from simulator.batch_work import BatchRun

STEP_SECONDS: Final = 1800.0
GPU_WATTS: Final = 330.0
"""An A100-80GB SXM, busy minus idle (catalogue)."""
STATED_FACTOR: Final = 1.5
STATED_QUEUE_SECONDS: Final = 900.0
UNKNOWN_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """Of one replay: kilograms of CO2e, jobs that ended after their deadline, mean hours from arrival to
    start, hours of the latest end before its deadline (least slack).
    """

    kilograms: float
    missed: int
    delay_hours: float
    least_slack_hours: float


def replay(
    runs: Sequence[BatchRun], truth: Floats, first_hour: int, gpus: float, policy: BatchPolicy
) -> BatchOutcome:
    """Replay ``runs`` beginning at ``first_hour`` of the hourly ``truth`` (g/kWh), on ``gpus`` free GPUs."""
    replayed = _Replay(runs, truth, first_hour * HOUR_SECONDS, gpus, policy)
    return replayed.result()


class _Replay:
    def __init__(
        self, runs: Sequence[BatchRun], truth: Floats, begin: float, gpus: float, policy: BatchPolicy
    ) -> None:
        self._runs = {run.key: run for run in runs}
        self._truth = truth
        self._curve = Curve.hourly(0.0, truth.tolist())
        self._begin, self._gpus, self._policy = begin, gpus, policy
        self._durations = Durations()
        self._coming = sorted(runs, key=lambda run: run.arrived_seconds)
        self._held: list[BatchRun] = []
        self._queue: list[tuple[BatchRun, float]] = []
        self._running: list[tuple[float, str, float]] = []  # end, key, expected end
        self._free = gpus
        self._started: dict[str, float] = {}

    def result(self) -> BatchOutcome:
        now, index = self._begin, 0
        while index < len(self._coming) or self._held or self._queue or self._running:
            self._advance(now)
            while index < len(self._coming) and self._arrived(self._coming[index]) <= now:
                self._held.append(self._coming[index])
                index += 1
            if self._held:
                self._ask(now)
            now += STEP_SECONDS
        return self._outcome()

    def _arrived(self, run: BatchRun) -> float:
        return self._begin + run.arrived_seconds

    def _ask(self, now: float) -> None:
        factor = self._durations.longest_factor(STATED_FACTOR)
        queue = STEP_SECONDS + self._durations.queue_seconds(STATED_QUEUE_SECONDS)
        jobs = [self._job(run, factor, queue) for run in self._held]
        free = self._pool(now)
        released = self._policy.release(jobs, Sight(now, self._truth, (Pool(ZONE, ZONE, free, GPU_WATTS),)))
        self._queue += [(run, now) for run in self._held if run.key in released]
        self._held = [run for run in self._held if run.key not in released]
        self._fill(now)

    def _pool(self, now: float) -> Curve:
        """GPUs free over time: what runs gives its GPUs back at its expected end, or soon if that is past."""
        steps = {now: self._free - sum(run.gpus for run, _ in self._queue)}
        for _, key, expected_end in self._running:
            at = max(expected_end, now + STEP_SECONDS)
            steps[at] = steps.get(at, 0.0) + self._runs[key].gpus
        times = sorted(steps)
        levels = np.cumsum([steps[at] for at in times]).tolist()
        return Curve((*times, times[-1] + 14 * 24 * HOUR_SECONDS), tuple(levels))

    def _job(self, run: BatchRun, factor: float, queue: float) -> HeldJob:
        deadline = self._arrived(run) + run.window_seconds
        if self._policy.exact:
            return HeldJob(run.key, run.gpus, deadline, run.seconds, run.seconds, STEP_SECONDS)
        expected = self._expected(run)
        known = not isinstance(self._durations.expected_seconds(run.family, run.declared_seconds), NoData)
        longest = expected * factor if known else max(expected, run.window_seconds / 2.0)
        return HeldJob(run.key, run.gpus, deadline, expected, longest, queue)

    def _expected(self, run: BatchRun) -> float:
        known = self._durations.expected_seconds(run.family, run.declared_seconds)
        return UNKNOWN_SECONDS if isinstance(known, NoData) else known

    def _advance(self, now: float) -> None:
        """Let jobs end, one by one, and let the queue have their GPUs at that moment."""
        while self._running and self._running[0][0] <= now:
            end, key, _ = heapq.heappop(self._running)
            run = self._runs[key]
            self._free += run.gpus
            self._durations = self._durations.ran(run.family, run.seconds, run.declared_seconds)
            self._fill(end)

    def _fill(self, now: float) -> None:
        waiting = []
        for run, since in self._queue:
            if run.gpus > self._free:
                waiting.append((run, since))
                continue
            self._free -= run.gpus
            self._started[run.key] = now
            self._durations = self._durations.waited(now - since)
            heapq.heappush(self._running, (now + run.seconds, run.key, now + self._expected(run)))
        self._queue = waiting

    def _outcome(self) -> BatchOutcome:
        runs = [self._runs[key] for key in self._started]
        starts = np.array([self._started[run.key] for run in runs])
        ends = starts + np.array([run.seconds for run in runs])
        watts = GPU_WATTS * np.array([run.gpus for run in runs])
        grams = watts / 3.6e6 * (self._curve.integral(ends) - self._curve.integral(starts))
        deadlines = np.array([self._arrived(run) + run.window_seconds for run in runs])
        arrived = np.array([self._arrived(run) for run in runs])
        return BatchOutcome(
            kilograms=float(grams.sum() / 1000.0),
            missed=int((ends > deadlines).sum()),
            delay_hours=float((starts - arrived).mean() / HOUR_SECONDS),
            least_slack_hours=float((deadlines - ends).min() / HOUR_SECONDS),
        )
