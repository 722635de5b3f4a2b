"""Quantiles of classic Prometheus histograms, and their inverse, computed outside Prometheus.

Workloads are sets of pods that Prometheus does not know, so buckets come back a pod, are added up here, and
the quantile is interpolated here, the way ``histogram_quantile`` does (promql/quantile.go,
``BucketQuantile``): linear inside the bucket that holds the rank, 0 as the lower end of the first bucket
when its bound is positive, and the highest finite bound when the rank falls into +Inf. A latency quantile
is therefore never above the highest finite bound: with that answer the truth may be higher.

Buckets are ``{upper bound: cumulative count or rate}`` and must hold +Inf. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from metrics.samples import NoData, Vector
from metrics.units import TimeUnit, to_seconds

Buckets: TypeAlias = Mapping[float, float]
PodKey: TypeAlias = tuple[str, str]
"""(namespace, pod)"""

SMALL_DELTA: Final = 1e-12
"""Relative difference of neighbouring counts that is rounding, not data (Prometheus' smallDeltaTolerance)."""


def quantile_from_buckets(buckets: Buckets, q: float) -> float | NoData:
    """The ``q``-quantile in the unit of the bounds; ``not-a-number`` when nothing was observed, ``malformed``
    without +Inf or with fewer than two buckets. Raises ``ValueError`` for ``q`` outside [0, 1]: that is a
    mistake in the program.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"quantile: got {q}, expected 0 to 1")
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return NoData(f"got bucket bounds {bounds}, expected at least one finite bound and +Inf", "malformed")
    counts = _monotonic([buckets[bound] for bound in bounds])
    observed = counts[-1]
    if not observed > 0:
        return NoData("nothing was observed in the window, so it has no quantile", "not-a-number")
    rank = q * observed
    last = len(bounds) - 1
    index = next((i for i in range(last) if counts[i] >= rank), last)
    if index == last:
        return bounds[last - 1]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    lower, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    inside = counts[index] - below
    if not inside > 0:  # q = 0 with an empty first bucket: 0/0 in Prometheus too
        return NoData("the rank falls into an empty bucket", "not-a-number")
    return lower + (bounds[index] - lower) * (rank - below) / inside


def share_above(buckets: Buckets, bound: float) -> float | NoData:
    """The share 0 to 1 of the observations above ``bound`` (in the unit of the bounds), linear inside the
    bucket that holds it, as ``quantile_from_buckets`` is.

    ``empty`` when nothing was observed. ``misconfigured`` when ``bound`` is above the highest finite bound:
    what lies between there and +Inf nobody counted, so the share could only be guessed.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return NoData(f"got bucket bounds {bounds}, expected at least one finite bound and +Inf", "malformed")
    highest = bounds[-2]
    if bound > highest:
        return NoData(
            f"{bound:g} is above the histogram's highest finite bound, {highest:g}", "misconfigured"
        )
    counts = _monotonic([buckets[upper] for upper in bounds])
    observed = counts[-1]
    if not observed > 0:
        return NoData("nothing was observed in the window", "empty")
    index = next(i for i, upper in enumerate(bounds) if upper >= bound)
    if index == 0 and (bounds[0] <= 0 or bound <= 0):
        inside = counts[0] if bound == bounds[0] else 0.0
        return 1.0 - inside / observed
    lower, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    inside = (counts[index] - below) * (bound - lower) / (bounds[index] - lower)
    return min(1.0, max(0.0, 1.0 - (below + inside) / observed))


def add_buckets(histograms: Iterable[Buckets]) -> dict[float, float]:
    """The histogram of all observations together.

    Only bounds that every histogram has are kept: counts are cumulative, so the result stays exact when
    replicas of two versions have different bounds (``sum by (le)`` would not).
    """
    total: dict[float, float] | None = None
    for buckets in histograms:
        if total is None:
            total = dict(buckets)
        else:
            total = {bound: count + buckets[bound] for bound, count in total.items() if bound in buckets}
    return total or {}


def buckets_by_pod(
    vector: Vector, unit: TimeUnit = "seconds", namespace_label: str = "namespace", pod_label: str = "pod"
) -> dict[PodKey, dict[float, float]]:
    """Split the answer of a bucket query (labels namespace, pod, ``le``) by pod, bounds converted to seconds.

    Series without a readable ``le`` are left out; they are no buckets.
    """
    pods: dict[PodKey, dict[float, float]] = {}
    for sample in vector.samples:
        try:
            bound = float(sample.labels.get("le", ""))
        except ValueError:
            continue
        key = (sample.labels.get(namespace_label, ""), sample.labels.get(pod_label, ""))
        pods.setdefault(key, {})[to_seconds(bound, unit)] = sample.value
    return pods


def _monotonic(counts: list[float]) -> list[float]:
    """Counts as they must be, never falling: scrapes of several targets are not atomic. Differences within
    rounding keep the lower bucket's count, so that interpolation does not meet an artificial sliver.
    """
    out = list(counts)
    for i in range(1, len(out)):
        before = out[i - 1]
        if out[i] < before or math.isclose(out[i], before, rel_tol=SMALL_DELTA, abs_tol=0.0):
            out[i] = before
    return out
