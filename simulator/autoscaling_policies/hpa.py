"""HorizontalPodAutoscaler v2: tolerance, unready pods, behaviour windows and policies, as they ship.

    External AverageValue: ratio = total/(target·status.replicas); keep within 10 %, else ceil(total/target)
    Pods (a mean a pod)  : ratio = value/target; keep within 10 %; starting pods count as 0 on the way up, and
                           if that puts the ratio within tolerance or turns it round, keep; else
                           ceil(ratio·pods) over the pods counted
    up  : window 0, at most the larger of +100 % and +4 pods in 15 s
    down: the highest wish of 300 s, at most −100 % in 15 s

Every 15 s. A metric that cannot be had leaves the replicas. Follows pkg/controller/podautoscaler of
Kubernetes (replica_calculator.go, horizontal.go). Does not model several metrics or the initial readiness
delay: a starting pod is taken as pending.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policy import Bounds, Seen, clamped, whole
from simulator.autoscaling_trace import Floats

SYNC_SECONDS = 15.0
TOLERANCE = 0.1
DOWN_WINDOW_SECONDS = 300.0
UP_PERCENT, UP_PODS, POLICY_SECONDS = 100.0, 4, 15.0


class Behaviour:
    """The default ``spec.behavior``: what becomes of a wish."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._wishes: deque[tuple[float, Ints]] = deque()
        self._raises: deque[tuple[float, Ints]] = deque()

    def shaped(self, wanted: Ints, current: Ints, now: float) -> Ints:
        """Replicas to set when ``wanted`` is the wish of ``now``."""
        self._wishes.append((now, wanted))
        while self._wishes[0][0] <= now - DOWN_WINDOW_SECONDS:
            self._wishes.popleft()
        highest = np.maximum.reduce([wish for _, wish in self._wishes])
        stable = np.where(wanted < current, np.minimum(current, highest), wanted)
        while self._raises and self._raises[0][0] <= now - POLICY_SECONDS:
            self._raises.popleft()
        start = current - sum((added for _, added in self._raises), start=np.zeros_like(current))
        limit = np.maximum(whole(start.astype(np.float64) * (1.0 + UP_PERCENT / 100.0)), start + UP_PODS)
        target = clamped(
            np.where(stable > current, np.minimum(stable, np.maximum(limit, current)), stable), self._bounds
        )
        self._raises.append((now, np.maximum(target - current, 0)))
        return target

    def forget(self) -> None:
        """Lose the past wishes, as a restart of the controller manager does."""
        self._wishes.clear()
        self._raises.clear()


def by_total(total: Floats, target: Floats, current: Ints) -> Ints:
    """The wish of an External metric of type AverageValue; ``total`` must be known."""
    ratio = total / (target * np.maximum(current, 1))
    return np.where(np.abs(1.0 - ratio) <= TOLERANCE, current, whole(total / target))


def by_mean(value: Floats, target: Floats, ready: Ints, starting: Ints, current: Ints) -> Ints:
    """The wish of a Pods metric: ``value`` is the mean over the ready pods, known."""
    ratio = value / target
    counted = ready + starting
    diluted = ratio * ready / np.maximum(counted, 1)
    plain = np.where(np.abs(1.0 - ratio) <= TOLERANCE, current, whole(ratio * ready))
    keep = (np.abs(1.0 - diluted) <= TOLERANCE) | (diluted < 1.0)
    rising = np.where(keep, current, whole(diluted * counted))
    return np.where((starting > 0) & (ratio > 1.0), rising, plain)


class HpaInFlight:
    """In-flight requests as an External metric; ``share`` of the slots of a replica is the target."""

    period_seconds = SYNC_SECONDS
    scrape_seconds = 15.0
    direct = False

    def __init__(self, bounds: Bounds, share: Floats) -> None:
        self._target, self._behaviour = share * bounds.slots, Behaviour(bounds)

    def decide(self, seen: Seen, now: float) -> Ints:
        total = seen.metrics.in_flight
        known = np.isfinite(total)
        wanted = np.where(
            known, by_total(np.where(known, total, 0.0), self._target, seen.current), seen.current
        )
        return np.where(known, self._behaviour.shaped(wanted, seen.current, now), seen.current)

    def restarted(self) -> None:
        self._behaviour.forget()


class HpaGpu:
    """GPU utilisation (DCGM_FI_DEV_GPU_UTIL, a duty cycle) as a Pods metric."""

    period_seconds = SYNC_SECONDS
    scrape_seconds = 15.0
    direct = False

    def __init__(self, bounds: Bounds, target: Floats) -> None:
        self._target, self._behaviour = target, Behaviour(bounds)

    def decide(self, seen: Seen, now: float) -> Ints:
        value = seen.metrics.gpu_utilisation
        known = np.isfinite(value) & (seen.ready > 0)
        there = np.where(known, value, 0.0)
        wish = by_mean(there, self._target, seen.ready, seen.starting, seen.current)
        wanted = np.where(known, wish, seen.current)
        return np.where(known, self._behaviour.shaped(wanted, seen.current, now), seen.current)

    def restarted(self) -> None:
        self._behaviour.forget()
