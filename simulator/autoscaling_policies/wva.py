"""llm-d's Workload Variant Autoscaler, V1: spare saturation capacity, one replica at a time.

    a replica is saturated at KV cache ≥ 0.80 or queue ≥ 5 (peaks of one minute)
    up one  : mean spare KV < 0.10 or mean spare queue < 3, over the replicas that are not saturated
    down one: if, with the load of all on one fewer, both spares still reach the trigger; 2 replicas or more

While a replica starts, nothing. Every 30 s (its optimisation interval; taken from memory of its
configuration). All replicas are alike here, so either all are saturated (no spare: up) or none. The swept
target scales the two saturation thresholds and both triggers by one factor.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policy import Bounds, Seen, clamped
from simulator.autoscaling_trace import Floats

KV_SATURATED, QUEUE_SATURATED = 0.80, 5.0
KV_TRIGGER, QUEUE_TRIGGER = 0.10, 3.0
INTERVAL_SECONDS, PEAK_SECONDS, SAMPLE_SECONDS = 30.0, 60.0, 15.0


class Wva:
    """``factor`` of the thresholds and triggers that ship; 1.0 is as it ships."""

    period_seconds = SAMPLE_SECONDS
    scrape_seconds = SAMPLE_SECONDS
    direct = False

    def __init__(self, bounds: Bounds, factor: Floats) -> None:
        self._bounds, self._factor = bounds, factor
        self._samples: deque[tuple[Floats, Floats]] = deque(maxlen=int(PEAK_SECONDS / SAMPLE_SECONDS))

    def decide(self, seen: Seen, now: float) -> Ints:
        ready = np.maximum(seen.ready, 1)
        self._samples.append((seen.metrics.kv_usage, seen.metrics.waiting / ready))
        if now % INTERVAL_SECONDS:
            return seen.current
        kv = np.max([sample[0] for sample in self._samples], axis=0)
        queue = np.max([sample[1] for sample in self._samples], axis=0)
        known = np.isfinite(kv) & np.isfinite(queue)
        kv_limit, queue_limit = KV_SATURATED * self._factor, QUEUE_SATURATED * self._factor
        kv_spare, queue_spare = KV_TRIGGER * self._factor, QUEUE_TRIGGER * self._factor
        more = (kv_limit - kv < kv_spare) | (queue_limit - queue < queue_spare)
        after = ready / np.maximum(ready - 1, 1)
        fewer = (
            (ready >= 2) & (kv_limit - kv * after >= kv_spare) & (queue_limit - queue * after >= queue_spare)
        )
        step = np.where(more, 1, np.where(fewer, -1, 0))
        settled = known & (seen.starting == 0)
        return clamped(np.where(settled, seen.current + step, seen.current), self._bounds)

    def restarted(self) -> None:
        self._samples.clear()
