"""KEDA on the queue: waiting requests in Prometheus, read every 30 s, through the HPA that KEDA makes.

The trigger is of type AverageValue, so the wish is ceil(waiting/threshold); tolerance, window and limits are
those of an HPA without ``spec.behavior``, as KEDA makes it. One replica stays (``minReplicaCount: 1``). An
empty result of Prometheus reads as 0 (``ignoreNullValues``, on by default); a Prometheus that does not answer
leaves the replicas.
"""

from __future__ import annotations

import numpy as np

from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policies.hpa import SYNC_SECONDS, by_total
from simulator.autoscaling_policies.hpa_behaviour import AsShipped
from simulator.autoscaling_policy import Bounds, Seen
from simulator.autoscaling_trace import Floats


class KedaQueue:
    """``threshold`` waiting requests a replica."""

    period_seconds = SYNC_SECONDS
    scrape_seconds = 30.0
    direct = False

    def __init__(self, bounds: Bounds, threshold: Floats) -> None:
        self._threshold, self._shape = threshold, AsShipped(bounds)

    def decide(self, seen: Seen, now: float) -> Ints:
        waiting = seen.metrics.waiting
        known = np.isfinite(waiting)
        wish = by_total(np.where(known, waiting, 0.0), self._threshold, seen.current)
        return self._shape.shaped(wish, known, seen.current, now)

    def restarted(self) -> None:
        self._shape.forget()
