"""HorizontalPodAutoscaler v2: tolerance, unready and missing pods, and the documented default behaviour.

    External AverageValue: ratio = total/(target·replicas); keep within 10 %, else ceil(total/target)
    Pods (a mean a pod)  : ratio = mean/target over the pods that report; keep within 10 %, else
                           ceil(ratio·pods). With pending or silent pods the ratio is taken anew: both count
                           as 0 on the way up, silent ones as at the target on the way down; keep if that is
                           within 10 % or turns the direction round
    what becomes of the wish: ``hpa_behaviour.WithBehaviour``, the documented defaults spelled out

An HPA that leaves ``spec.behavior`` out does otherwise: it follows wishes of the past five minutes up
(``hpa_behaviour.AsShipped``). Every 15 s. A metric that cannot be had leaves the replicas. Follows
pkg/controller/podautoscaler of Kubernetes 1.36 (replica_calculator.go); checked step by step against
kube-controller-manager. Does not model several metrics, nor starting pods that run and report already: a
starting pod is taken as pending.
"""

from __future__ import annotations

import numpy as np

from simulator.autoscaling_demand import Ints
from simulator.autoscaling_policies.hpa_behaviour import Flags, WithBehaviour
from simulator.autoscaling_policy import Bounds, Seen, whole
from simulator.autoscaling_trace import Floats

SYNC_SECONDS = 15.0
TOLERANCE = 0.1


def within(ratio: Floats, down: float = TOLERANCE, up: float = TOLERANCE) -> Flags:
    """Whether a usage ratio is too near to 1 to act on, by the tolerance of either direction."""
    inside: Flags = (ratio >= 1.0 - down) & (ratio <= 1.0 + up)
    return inside


def by_total(
    total: Floats, target: Floats, current: Ints, down: float = TOLERANCE, up: float = TOLERANCE
) -> Ints:
    """The wish of an External metric of type AverageValue; ``total`` must be known."""
    ratio = total / (target * np.maximum(current, 1))
    return np.where(within(ratio, down, up), current, whole(total / target))


def by_mean(
    value: Floats, target: Floats, ready: Ints, starting: Ints, current: Ints, silent: Ints | int = 0
) -> Ints:
    """The wish of a Pods metric: ``value`` is the mean over the ready pods that are not ``silent``, known.

    ``starting`` pods are pending.
    """
    missing = np.minimum(silent, ready)
    reporting = ready - missing
    ratio = value / target
    up, down = ratio > 1.0, ratio < 1.0
    dilutes = (starting > 0) & up
    plain = np.where(within(ratio), current, whole(ratio * reporting))
    counted = reporting + np.where(up | down, missing, 0) + np.where(dilutes, starting, 0)
    anew = (ratio * reporting + np.where(down, missing, 0)) / np.maximum(counted, 1)
    wish = whole(anew * counted)
    turned = (down & (anew > 1.0)) | (up & (anew < 1.0))
    against = ((anew < 1.0) & (wish > current)) | ((anew > 1.0) & (wish < current))
    diluted = np.where(within(anew) | turned | against, current, wish)
    return np.where(dilutes | (missing > 0), diluted, plain)


class HpaInFlight:
    """In-flight requests as an External metric; ``share`` of the slots of a replica is the target."""

    period_seconds = SYNC_SECONDS
    scrape_seconds = 15.0
    direct = False

    def __init__(self, bounds: Bounds, share: Floats) -> None:
        self._target, self._shape = share * bounds.slots, WithBehaviour(bounds)

    def decide(self, seen: Seen, now: float) -> Ints:
        total = seen.metrics.in_flight
        known = np.isfinite(total)
        wish = by_total(np.where(known, total, 0.0), self._target, seen.current)
        return self._shape.shaped(wish, known, seen.current, now)

    def restarted(self) -> None:
        self._shape.forget()


class HpaGpu:
    """GPU utilisation (DCGM_FI_DEV_GPU_UTIL, a duty cycle) as a Pods metric."""

    period_seconds = SYNC_SECONDS
    scrape_seconds = 15.0
    direct = False

    def __init__(self, bounds: Bounds, target: Floats) -> None:
        self._target, self._shape = target, WithBehaviour(bounds)

    def decide(self, seen: Seen, now: float) -> Ints:
        value, silent = seen.metrics.gpu_utilisation, seen.metrics.silent
        known = np.isfinite(value) & (seen.ready > silent)
        there = np.where(known, value, 0.0)
        wish = by_mean(there, self._target, seen.ready, seen.starting, seen.current, silent)
        return self._shape.shaped(wish, known, seen.current, now)

    def restarted(self) -> None:
        self._shape.forget()
