"""How much pods lose to their neighbours, estimated from latencies beside who the neighbours were.

Model, for a pod of class a in workload w at one time:

    latency = base_w × (1 + Σ_j S[a, j] × amount of neighbours j + c × own load) + noise

j runs over (what is shared, neighbour's class); ``base_w`` is the workload's own latency alone, so workloads
of different speed teach one S. Own load is a nuisance with a flat prior: neighbours are busy when the pod
is. S is taken from Bayesian linear regression: the declared value is the prior mean, ``prior_spread`` its
standard deviation, so few or uninformative samples leave the declared value as it is; what has never been
declared has a wide prior around 0 and is told only once the data decide. The base is profiled out (only how
latency moves *with* the neighbours counts), by a few rounds of: base from S, S from base.

Nothing is learned of a pair before ``min_samples`` samples had fewer neighbours of that kind than the mean
and ``min_samples`` had more. Kept are sums alone, so memory does not grow with time; ``decay`` lets the past
fade. A measure of speed (SM activity of a pod that always has work) is entered as 1 / speed.

Source: Gelman et al., Bayesian Data Analysis, 14.8 (informative priors in regression). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Beside: TypeAlias = tuple[str, str]
"""(what is shared, neighbour's class)"""
Pair: TypeAlias = tuple[str, str, str]
"""(what is shared, class, neighbour's class)"""

NOTHING_LEARNED: Final[Mapping[Pair, float]] = MappingProxyType({})

_UNDECLARED_SPREAD = 0.5
_LOAD_SPREAD = 10.0
_DECIDED_SPREAD = 0.1
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """One pod at one time. ``beside``: amounts of neighbours by what is shared and their class; ``load``: the
    pod's own, in any unit that is the same throughout its workload (0 where unknown).
    """

    workload: str
    own_class: str
    latency_seconds: float
    beside: Mapping[Beside, float]
    load: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A slowdown (share of speed lost to one neighbour, 0 to 1), its standard deviation, and the samples with
    more than the mean of such neighbours that it rests on.
    """

    slowdown: float
    spread: float
    samples: int


@dataclass(slots=True)
class _Sums:
    """Of one workload: n, Σx, Σxxᵀ, Σxy, Σy, Σy² over features x = (load, neighbours …) and latencies y."""

    own_class: str
    count: float
    x: Floats
    xx: Floats
    xy: Floats
    y: float = 0.0
    yy: float = 0.0
    low: Floats = field(default_factory=lambda: np.zeros(0))
    high: Floats = field(default_factory=lambda: np.zeros(0))


class Slowdowns:
    """Sums of what was seen, and the estimates that follow."""

    def __init__(self) -> None:
        self._features: dict[Beside, int] = {}
        self._workloads: dict[str, _Sums] = {}

    def add(self, samples: Iterable[Sample]) -> None:
        """Take samples in. Those without a positive finite latency are left out."""
        for sample in samples:
            if not (np.isfinite(sample.latency_seconds) and sample.latency_seconds > 0.0):
                continue
            for key in sample.beside:
                self._features.setdefault(key, len(self._features) + 1)
            sums = self._workloads.get(sample.workload)
            if sums is None or sums.own_class != sample.own_class:
                sums = _Sums(sample.own_class, 0.0, np.zeros(1), np.zeros((1, 1)), np.zeros(1))
                self._workloads[sample.workload] = sums
            width = len(self._features) + 1
            if len(sums.x) < width:
                _widen(sums, width)
            x = np.zeros(width)
            x[0] = sample.load
            for key, amount in sample.beside.items():
                x[self._features[key]] = amount
            mean = sums.x / sums.count if sums.count else x
            sums.low += x < mean
            sums.high += x > mean
            sums.count += 1.0
            sums.x += x
            sums.xx += np.outer(x, x)
            sums.xy += x * sample.latency_seconds
            sums.y += sample.latency_seconds
            sums.yy += sample.latency_seconds**2

    def decay(self, factor: float) -> None:
        """Let everything seen so far count ``factor`` (0 to 1) of what it did."""
        for name, sums in list(self._workloads.items()):
            for part in (sums.x, sums.xx, sums.xy, sums.low, sums.high):
                part *= factor
            sums.count *= factor
            sums.y *= factor
            sums.yy *= factor
            if sums.count < 0.5:
                del self._workloads[name]

    def estimates(
        self, declared: Mapping[Pair, float], *, prior_spread: float, min_samples: int
    ) -> dict[Pair, Estimate]:
        """What the samples say of each pair, shrunk to ``declared``; pairs that they do not decide are left
        out.
        """
        found: dict[Pair, Estimate] = {}
        for own_class in sorted({sums.own_class for sums in self._workloads.values()}):
            found |= self._of_class(own_class, declared, prior_spread, min_samples)
        return found

    def _of_class(
        self, own_class: str, declared: Mapping[Pair, float], prior_spread: float, min_samples: int
    ) -> dict[Pair, Estimate]:
        width = len(self._features) + 1
        members = [sums for sums in self._workloads.values() if sums.own_class == own_class]
        for sums in members:
            _widen(sums, width)
        prior_mean, prior_precision = np.zeros(width), np.full(width, 1.0 / _UNDECLARED_SPREAD**2)
        prior_precision[0] = 1.0 / _LOAD_SPREAD**2
        for (where, neighbour), index in self._features.items():
            if (where, own_class, neighbour) in declared:
                prior_mean[index] = declared[where, own_class, neighbour]
                prior_precision[index] = 1.0 / prior_spread**2
        slope, covariance = _posterior(members, prior_mean, prior_precision)
        low = sum((sums.low for sums in members), np.zeros(width))
        high = sum((sums.high for sums in members), np.zeros(width))
        found: dict[Pair, Estimate] = {}
        for (where, neighbour), index in self._features.items():
            pair = (where, own_class, neighbour)
            spread = float(np.sqrt(covariance[index, index]))
            enough = min(low[index], high[index]) >= min_samples
            if enough and (pair in declared or spread <= _DECIDED_SPREAD):
                value = float(np.clip(slope[index], 0.0, 1.0))
                found[pair] = Estimate(value, spread, int(high[index]))
        return found


def _posterior(members: list[_Sums], prior_mean: Floats, prior_precision: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance of the slopes, in shares of the latency alone."""
    slope = prior_mean.copy()
    covariance: Floats = np.diag(1.0 / prior_precision)
    for _ in range(_ROUNDS):
        precision = np.diag(prior_precision)
        pull = prior_precision * prior_mean
        for sums in members:
            if sums.count < 3.0:
                continue
            base = (sums.y / sums.count) / max(1.0 + float(sums.x @ slope) / sums.count, 0.1)
            # About the workload's means: latency that does not move with the neighbours tells nothing.
            spread_x = sums.xx - np.outer(sums.x, sums.x) / sums.count
            with_y = sums.xy - sums.x * sums.y / sums.count
            spread_y = sums.yy - sums.y**2 / sums.count
            gain = base * slope
            residual = spread_y - 2.0 * float(gain @ with_y) + float(gain @ spread_x @ gain)
            # At least 1 % of the latency: a handful of equal values is no perfect measurement.
            variance = max(residual / sums.count, (0.01 * sums.y / sums.count) ** 2)
            precision = precision + base**2 / variance * spread_x
            pull = pull + base / variance * with_y
        covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
        slope = covariance @ pull
    return slope, covariance


def _widen(sums: _Sums, width: int) -> None:
    have = len(sums.x)
    for name in ("x", "xy", "low", "high"):
        old: Floats = getattr(sums, name)
        new = np.zeros(width)
        new[: len(old)] = old
        setattr(sums, name, new)
    square = np.zeros((width, width))
    square[:have, :have] = sums.xx
    sums.xx = square
