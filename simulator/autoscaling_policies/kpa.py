"""Knative's pod autoscaler on concurrency, with its defaults.

    every 2 s: stable = mean in-flight of 60 s, panic = mean of 6 s
    want = ceil(mean/target), within [floor(ready/2), ceil(1000·ready)] for both
    panic begins when ceil(panic/target)/ready ≥ 2 and ends after 60 s without; in it never fewer than the
    most that it has asked for, and at least the stable wish

Target 70 % of the concurrency of a replica. After a restart with more than one replica it begins in panic, so
as not to lower blindly. Follows pkg/autoscaler/scaling/autoscaler.go and config-autoscaler; the request queue
is seen by the activator and the queue proxies, which push every second. Does not scale to zero here.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policy import Bounds, Seen, clamped, whole
from simulator.autoscaling_trace import Floats

TICK_SECONDS = 2.0
STABLE_SECONDS, PANIC_SECONDS = 60.0, 6.0
PANIC_THRESHOLD = 2.0
UP_RATE, DOWN_RATE = 1000.0, 2.0


class Kpa:
    """``share`` of the slots of a replica is the target."""

    period_seconds = TICK_SECONDS
    scrape_seconds = TICK_SECONDS
    direct = True

    def __init__(self, bounds: Bounds, share: Floats) -> None:
        self._bounds, self._target = bounds, share * bounds.slots
        self._samples: deque[Floats] = deque()
        self._sum = np.zeros(len(share))
        self._panicking = np.full(len(share), -np.inf)
        self._panic_pods = np.zeros(len(share), dtype=np.int64)
        self._begins = False

    def decide(self, seen: Seen, now: float) -> Ints:
        value = seen.metrics.in_flight
        if not np.isfinite(value).all():
            return seen.current
        self._samples.append(value)
        self._sum = self._sum + value
        if len(self._samples) > STABLE_SECONDS / TICK_SECONDS:
            self._sum = self._sum - self._samples.popleft()
        stable = self._sum / len(self._samples)
        newest = list(self._samples)[-int(PANIC_SECONDS / TICK_SECONDS) :]
        panic = np.add.reduce(newest) / len(newest)
        ready = np.maximum(seen.ready, 1)
        lowest = np.where(seen.ready > 0, np.floor(ready / DOWN_RATE), 0).astype(np.int64)
        highest = whole(UP_RATE * ready)
        wants_stable = np.clip(whole(stable / self._target), lowest, highest)
        by_panic = whole(panic / self._target)
        wants_panic = np.clip(by_panic, lowest, highest)
        if self._begins:
            self._begins = False
            blind = seen.current > 1
            self._panicking = np.where(blind, now, -np.inf)
            self._panic_pods = np.where(blind, seen.current, 0)
        over = by_panic / ready >= PANIC_THRESHOLD
        calm = (self._panicking > -np.inf) & ~over & (self._panicking + STABLE_SECONDS < now)
        self._panicking = np.where(over, now, np.where(calm, -np.inf, self._panicking))
        in_panic = self._panicking > -np.inf
        asked = np.maximum(wants_panic, wants_stable)
        self._panic_pods = np.where(in_panic, np.maximum(self._panic_pods, asked), 0)
        return clamped(np.where(in_panic, self._panic_pods, wants_stable), self._bounds)

    def restarted(self) -> None:
        self._samples.clear()
        self._sum = np.zeros_like(self._sum)
        self._begins = True
