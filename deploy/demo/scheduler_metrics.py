"""kube-scheduler's own latency, out of its metrics in Prometheus' text format.

``scheduler_scheduling_algorithm_duration_seconds`` is the time of one scheduling decision (filters, scores,
extenders), without the queue and without binding. A histogram: the mean is exact, quantiles are interpolated
inside a bucket as ``histogram_quantile`` does. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

from prometheus_client.parser import text_string_to_metric_families

ALGORITHM = "scheduler_scheduling_algorithm_duration_seconds"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts by upper bound (the last one infinite), their sum in seconds, their count."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total_seconds: float
    count: float

    @property
    def mean(self) -> float:
        return self.total_seconds / self.count if self.count else nan

    def quantile(self, share: float) -> float:
        """Interpolated as Prometheus does; nan without observations, the largest finite bound in the last
        bucket.
        """
        if not self.count:
            return nan
        wanted = share * self.count
        lower, below = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= wanted:
                if bound == inf:
                    return lower
                inside = count - below
                return lower + (bound - lower) * ((wanted - below) / inside if inside else 1.0)
            lower, below = bound, count
        return lower

    def since(self, earlier: Histogram) -> Histogram:
        """What was observed after ``earlier``; buckets of both must be the same."""
        before = dict(zip(earlier.bounds, earlier.counts, strict=True))
        counts = tuple(
            count - before.get(bound, 0.0) for bound, count in zip(self.bounds, self.counts, strict=True)
        )
        return Histogram(
            self.bounds, counts, self.total_seconds - earlier.total_seconds, self.count - earlier.count
        )


def read_histogram(text: str, name: str) -> Histogram:
    """The histogram ``name``, all label sets added up; empty when the text has none."""
    buckets: dict[float, float] = {}
    total = count = 0.0
    for family in text_string_to_metric_families(text):
        if family.name != name:
            continue
        for sample in family.samples:
            if sample.name == f"{name}_bucket":
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
            elif sample.name == f"{name}_sum":
                total += sample.value
            elif sample.name == f"{name}_count":
                count += sample.value
    bounds = tuple(sorted(buckets))
    return Histogram(bounds, tuple(buckets[bound] for bound in bounds), total, count)
