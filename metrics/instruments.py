"""A ``Metric`` as an object of prometheus_client that counts, in a registry of its own.

Label sets known beforehand start at 0, ages and timestamps start as NaN. The default registry of
prometheus_client is not used: two fleets in one process (tests, simulations) must not meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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


Reading: TypeAlias = tuple[Metric, tuple[str, ...], float]
"""A metric, the values of its labels, its value."""


class OnRequest(Collector):
    """Gauges that are read off something when the page is asked for: ``read`` is called in the thread that
    serves the page. What it no longer tells of is no longer there.
    """

    def __init__(self, registry: CollectorRegistry, metrics: tuple[Metric, ...]) -> None:
        self._metrics = metrics
        self.read: Callable[[], Iterable[Reading]] = tuple
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The families, without values."""
        yield from self._families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families as they are now."""
        families = self._families()
        for metric, labels, value in self.read():
            families[metric.name].add_metric(labels, value)
        yield from families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {one.name: GaugeMetricFamily(one.name, one.help, labels=one.labels) for one in self._metrics}
