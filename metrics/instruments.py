"""A ``Metric`` as an object of prometheus_client that counts, in a registry of its own.

Label sets known beforehand start at 0, ages and timestamps start as NaN. The default registry of
prometheus_client is not used: two fleets in one process (tests, simulations) must not meet.
"""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from metrics.metric import Metric

# A ``_created`` series beside every counter would double the page and is read by nobody.
disable_created_metrics()  # type: ignore[no-untyped-call]


def counter(registry: CollectorRegistry, metric: Metric) -> Counter:
    made = Counter(metric.name, metric.help, metric.labels, registry=registry)
    for values in metric.initial:
        made.labels(*values)
    return made


def gauge(registry: CollectorRegistry, metric: Metric) -> Gauge:
    made = Gauge(metric.name, metric.help, metric.labels, registry=registry)
    for values in metric.initial:
        made.labels(*values)
    if metric.starts_unknown and not metric.labels:
        made.set(math.nan)
    return made


def histogram(registry: CollectorRegistry, metric: Metric) -> Histogram:
    made = Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    for values in metric.initial:
        made.labels(*values)
    return made
