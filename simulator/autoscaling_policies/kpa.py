"""Knative's pod autoscaler on concurrency, with its defaults.

    every 2 s: stable = mean in-flight of 60 s, panic = mean of 6 s
    want = ceil(mean/target), within [floor(ready/2), ceil(1000·ready)] for both
    panic begins when ceil(panic/target)/ready ≥ 2 and ends after 60 s without; in it never fewer than the
    most that it has asked for, and at least the stable wish

Target 70 % of the concurrency of a replica. After a restart with more than one ready replica it begins in
panic, so as not to lower blindly. Follows pkg/autoscaler/scaling/autoscaler.go and config-autoscaler, and is
checked against the cases of autoscaler_test.go; the request queue is seen by the activator and the queue
proxies, which push every second. Does not scale to zero here, and leaves out what is off by default
(activation scale, scale-down delay).
"""

from __future__ import annotations

from collections import deque

import numpy as np

from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policy import Bounds, Seen, between, clamped, whole
from simulator.autoscaling_trace import Floats

TICK_SECONDS = 2.0
STABLE_SECONDS, PANIC_SECONDS = 60.0, 6.0
PANIC_THRESHOLD = 2.0
UP_RATE, DOWN_RATE = 1000.0, 2.0


class Scaler:
    """From the two means to a count: ``autoscaler.Scale``. Arrays hold one value a run."""

    def __init__(self, target: Floats, up_rate: float = UP_RATE, down_rate: float = DOWN_RATE) -> None:
        self._target = target
        self._up_rate, self._down_rate = up_rate, down_rate
        self._panicking = np.full(len(target), -np.inf)  # since when, last over the threshold
        self._panic_pods = np.zeros(len(target), dtype=np.int64)

    @property
    def in_panic(self) -> Floats:
        """When each run was last over the threshold, minus infinity outside panic."""
        return self._panicking

    def begin(self, ready: Ints, now: float) -> None:
        """Start anew with so many replicas ready."""
        blind = ready > 1
        self._panicking = np.where(blind, now, -np.inf)
        self._panic_pods = np.where(blind, ready, 0)

    def scale(self, stable: Floats, panic: Floats, ready: Ints, now: float) -> Ints:
        """The count wanted, given the means of both windows."""
        pods = np.maximum(ready, 1).astype(np.float64)
        lowest, highest = np.floor(pods / self._down_rate).astype(np.int64), whole(self._up_rate * pods)
        by_panic = whole(panic / self._target)
        wants_stable = between(whole(stable / self._target), lowest, highest)
        wants_panic = between(by_panic, lowest, highest)
        over = by_panic / pods >= PANIC_THRESHOLD
        calm = (self._panicking > -np.inf) & ~over & (self._panicking + STABLE_SECONDS < now)
        self._panicking = np.where(over, now, np.where(calm, -np.inf, self._panicking))
        in_panic = self._panicking > -np.inf
        asked = np.maximum(wants_panic, wants_stable)
        self._panic_pods = np.where(in_panic, np.maximum(self._panic_pods, asked), 0)
        return np.where(in_panic, self._panic_pods, wants_stable)


class Kpa:
    """``share`` of the slots of a replica is the target."""

    period_seconds = TICK_SECONDS
    scrape_seconds = TICK_SECONDS
    direct = True

    def __init__(self, bounds: Bounds, share: Floats) -> None:
        self._bounds = bounds
        self._scaler = Scaler(share * bounds.slots)
        self._samples: deque[Floats] = deque()
        self._sum = np.zeros(len(share))
        self._begins = False

    def decide(self, seen: Seen, now: float) -> Ints:
        value = seen.metrics.in_flight
        if self._begins:
            self._begins = False
            self._scaler.begin(seen.ready, now)
        if not np.isfinite(value).all():
            return seen.current
        self._samples.append(value)
        self._sum = self._sum + value
        if len(self._samples) > STABLE_SECONDS / TICK_SECONDS:
            self._sum = self._sum - self._samples.popleft()
        newest = list(self._samples)[-int(PANIC_SECONDS / TICK_SECONDS) :]
        stable, panic = self._sum / len(self._samples), np.add.reduce(newest) / len(newest)
        return clamped(self._scaler.scale(stable, panic, seen.ready, now), self._bounds)

    def restarted(self) -> None:
        self._samples.clear()
        self._sum = np.zeros_like(self._sum)
        self._begins = True
