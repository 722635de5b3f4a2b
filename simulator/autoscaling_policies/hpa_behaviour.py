"""What a HorizontalPodAutoscaler makes of a wish: stabilisation and rate limits, with or without a behaviour.

``AsShipped`` is an HPA whose ``spec.behavior`` is not set, and that is not the same as one that spells the
documented defaults out:

    stable = max(wish, every wish of 300 s)       also on the way up: a past wish that a limit cut short is
                                                  still followed when the present wish is lower
    target = stable, at most max(2·current, 4)    in one sync, whatever was added before

``WithBehaviour`` is one that sets it (then every field left out takes its default):

    stable = current, raised to min(wish, those of the up window), lowered to max(wish, those of the down one)
    up  : at most the largest of start·(1+percent) and start+pods, down: at least the smallest of their like
    start = current − added + removed in the policy's period

Both begin with the replicas found as a first wish, so that a restart of the controller manager lowers nothing
for a window. A failed metric leaves no wish. Follows pkg/controller/podautoscaler/horizontal.go of Kubernetes
1.36 (``normalizeDesiredReplicas``, ``normalizeDesiredReplicasWithBehaviors``); checked step by step against
kube-controller-manager. Many runs at a time: arrays hold one value a run.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policy import Bounds, between, clamped, whole

Flags = NDArray[np.bool_]

DOWN_WINDOW_SECONDS = 300.0
UP_FACTOR, UP_LEAST = 2, 4
_NO_WISH = -1


class _Wishes:
    """The wishes of the longest window, oldest first."""

    def __init__(self, keep_seconds: float) -> None:
        self._keep = keep_seconds
        self._all: deque[tuple[float, Ints]] = deque()

    def begin(self, current: Ints, now: float) -> None:
        if not self._all:
            self._all.append((now, current))

    def highest(self, wanted: Ints, window_seconds: float, now: float) -> Ints:
        recent = [wish for at, wish in self._all if at > now - window_seconds]
        found: Ints = np.maximum.reduce([wanted, *recent])
        return found

    def lowest(self, wanted: Ints, window_seconds: float, now: float) -> Ints:
        recent = [wish for at, wish in self._all if at > now - window_seconds]
        found: Ints = np.minimum.reduce([wanted, *(np.where(w == _NO_WISH, wanted, w) for w in recent)])
        return found

    def add(self, wanted: Ints, known: Flags, now: float) -> None:
        self._all.append((now, np.where(known, wanted, _NO_WISH)))
        while self._all and self._all[0][0] <= now - self._keep and len(self._all) > 1:
            self._all.popleft()

    def forget(self) -> None:
        self._all.clear()


class AsShipped:
    """No ``spec.behavior``."""

    def __init__(self, bounds: Bounds, down_window_seconds: float = DOWN_WINDOW_SECONDS) -> None:
        self._bounds = bounds
        self._window = down_window_seconds
        self._wishes = _Wishes(down_window_seconds)

    def shaped(self, wanted: Ints, known: Flags, current: Ints, now: float) -> Ints:
        """Replicas to set when ``wanted`` is the wish of ``now``; where it is not ``known`` they stay."""
        self._wishes.begin(current, now)
        stable = self._wishes.highest(wanted, self._window, now)
        self._wishes.add(wanted, known, now)
        limit = np.maximum(UP_FACTOR * current, UP_LEAST)
        return np.where(known, clamped(np.minimum(stable, limit), self._bounds), current)

    def forget(self) -> None:
        """Lose the past, as a restart of the controller manager does."""
        self._wishes.forget()


@dataclass(frozen=True, slots=True)
class Rate:
    """One direction of ``spec.behavior``: window, and policies of ``selectPolicy: Max`` with one period.

    ``percent`` and ``pods`` None: no such policy.
    """

    window_seconds: float
    percent: float | None = 100.0
    pods: int | None = None
    period_seconds: float = 15.0
    disabled: bool = False


UP, DOWN = Rate(0.0, pods=4), Rate(DOWN_WINDOW_SECONDS)


class WithBehaviour:
    """``spec.behavior`` given; by default with the values that the API server fills in."""

    def __init__(self, bounds: Bounds, up: Rate = UP, down: Rate = DOWN) -> None:
        self._bounds = bounds
        self._up, self._down = up, down
        self._wishes = _Wishes(max(up.window_seconds, down.window_seconds))
        self._changes: deque[tuple[float, Ints]] = deque()

    def shaped(self, wanted: Ints, known: Flags, current: Ints, now: float) -> Ints:
        """Replicas to set when ``wanted`` is the wish of ``now``; where it is not ``known`` they stay."""
        self._wishes.begin(current, now)
        floor = self._wishes.lowest(wanted, self._up.window_seconds, now)
        ceiling = self._wishes.highest(wanted, self._down.window_seconds, now)
        self._wishes.add(wanted, known, now)
        stable = np.minimum(np.maximum(current, floor), ceiling)
        most = np.maximum(self._limit(self._up, current, now, 1), current)
        least = np.minimum(self._limit(self._down, current, now, -1), current)
        target = np.where(known, clamped(between(stable, least, most), self._bounds), current)
        self.rescaled(target - current, now)
        return target

    def rescaled(self, change: Ints, now: float) -> None:
        """Remember what was added (or, below 0, removed), for the limits of the periods to come."""
        longest = max(self._up.period_seconds, self._down.period_seconds)
        while self._changes and self._changes[0][0] <= now - longest:
            self._changes.popleft()
        self._changes.append((now, change))

    def forget(self) -> None:
        """Lose the past, as a restart of the controller manager does."""
        self._wishes.forget()
        self._changes.clear()

    def _limit(self, rate: Rate, current: Ints, now: float, sign: int) -> Ints:
        if rate.disabled:
            return current
        recent = [change for at, change in self._changes if at > now - rate.period_seconds]
        start = current - sum(recent, start=np.zeros_like(current))
        limits: list[Ints] = []
        if rate.percent is not None:
            share = start.astype(np.float64) * (1.0 + sign * rate.percent / 100.0)
            limits.append(whole(share) if sign > 0 else share.astype(np.int64))
        if rate.pods is not None:
            limits.append(start + sign * rate.pods)
        limit: Ints = np.maximum.reduce(limits) if sign > 0 else np.minimum.reduce(limits)
        return limit
