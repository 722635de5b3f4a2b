"""What goes wrong in a run, always in the ten minutes in which the most requests come.

``prometheus-down``: Prometheus does not answer for 10 minutes. ``nan-idle``: ratios and latencies read NaN
while nothing is in flight, all through the run. ``silent-pods``: one in five ready replicas reports nothing,
all through. ``restart``: the controller starts anew. ``second-writer``: somebody sets a
HorizontalPodAutoscaler (on requests in flight, at its usual target) on the workload for 10 minutes. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from simulator.autoscaling_demand import Demand, Ints
from simulator.autoscaling_policy import Metrics

FAULTS = ("prometheus-down", "nan-idle", "silent-pods", "restart", "second-writer")
LASTS_SECONDS = 600.0
SILENT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of a run; ``peak_seconds`` is when those begin that have a beginning."""

    names: frozenset[str]
    peak_seconds: float

    @classmethod
    def at_peak(cls, names: Collection[str], demand: Demand) -> Faults:
        """The faults ``names`` at the busiest ten minutes of ``demand``."""
        return cls(frozenset(names), demand.peak_step() * demand.step_seconds)

    def prometheus_down(self, now: float) -> bool:
        """Prometheus does not answer now."""
        return "prometheus-down" in self.names and self._lasting(now)

    def restarts(self, now: float, step_seconds: float) -> bool:
        """The controllers start anew in this step (the middle of the peak)."""
        at = self.peak_seconds + LASTS_SECONDS / 2.0
        return "restart" in self.names and at <= now < at + step_seconds

    def second_writer(self, now: float) -> bool:
        """Somebody else writes the replicas, too."""
        return "second-writer" in self.names and self._lasting(now)

    def on_metrics(self, metrics: Metrics, ready: Ints) -> Metrics:
        """The metrics as they are scraped under the faults."""
        if "silent-pods" in self.names:
            silent = (ready * SILENT_SHARE).astype(np.int64)
            reports = 1.0 - silent / np.maximum(ready, 1)
            metrics = replace(
                metrics,
                in_flight=metrics.in_flight * reports,
                waiting=metrics.waiting * reports,
                silent=silent,
            )
        if "nan-idle" in self.names:
            idle = metrics.in_flight <= 0.0
            metrics = replace(
                metrics,
                gpu_utilisation=np.where(idle, np.nan, metrics.gpu_utilisation),
                kv_usage=np.where(idle, np.nan, metrics.kv_usage),
                slo_missed=np.where(idle, np.nan, metrics.slo_missed),
            )
        return metrics

    def _lasting(self, now: float) -> bool:
        return self.peak_seconds <= now < self.peak_seconds + LASTS_SECONDS
