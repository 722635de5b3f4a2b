"""What a model server exports, and the PromQL that reads it: one query a metric for all workloads at once.

Queries group by namespace and pod and by nothing else; which pod belongs to which workload is known to the
API server, not to Prometheus. Where a server renamed a metric, both names are asked for and the newer wins
a pod. Series that must add up (running + waiting) are added with ``+``: a pod that lacks one of them is
absent, never undercounted.

Pure: text in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from metrics.units import TimeUnit

Measure: TypeAlias = Literal["e2e", "ttft", "itl"]
"""e2e: whole request. ttft: time to first token. itl: time between tokens."""

Names: TypeAlias = tuple[str, ...]
"""Names of one metric over the server's releases, newest first."""


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """A classic histogram by its base name (without ``_bucket``), newest name first, and the unit of its
    bounds.
    """

    names: Names
    unit: TimeUnit = "seconds"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which series are meant, and the labels that say whose they are. ``matchers`` goes into every selector,
    for example ``cluster="eu-1"`` where one Prometheus API serves several clusters.
    """

    namespace_label: str = "namespace"
    pod_label: str = "pod"
    matchers: str = ""

    @property
    def grouping(self) -> str:
        return f"{self.namespace_label}, {self.pod_label}"

    def select(self, name: str, matchers: str = "") -> str:
        inside = ", ".join(part for part in (matchers, self.matchers) if part)
        return f"{name}{{{inside}}}" if inside else name


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class ServerPreset:
    """Names of a model server's metrics. ``in_flight`` lists gauges whose **sum** is the number of requests
    in the server; ``requests`` counts finished requests; ``cache_usage`` is a ratio from 0 to 1.
    """

    name: str
    in_flight: tuple[Names, ...]
    latency: Mapping[Measure, LatencyHistogram]
    requests: Names = ()
    running: Names = ()
    waiting: Names = ()
    cache_usage: Names = ()
    matchers: str = ""

    def in_flight_query(self, scope: Scope = EVERYTHING) -> str:
        """Requests in the server now, a pod: running and waiting."""
        return " + ".join(f"({self._gauge(names, scope)})" for names in self.in_flight)

    def running_query(self, scope: Scope = EVERYTHING) -> str | None:
        """Requests being worked on, a pod; ``None`` when the server does not tell."""
        return self._gauge(self.running, scope) if self.running else None

    def waiting_query(self, scope: Scope = EVERYTHING) -> str | None:
        """Requests in the server's queue, a pod; ``None`` when the server does not tell."""
        return self._gauge(self.waiting, scope) if self.waiting else None

    def cache_usage_query(self, scope: Scope = EVERYTHING) -> str | None:
        """Share of the KV cache in use, a pod, 0 to 1 (the fullest engine of the pod); ``None`` without such
        a gauge.
        """
        return self._gauge(self.cache_usage, scope, "max") if self.cache_usage else None

    def request_rate_query(self, window_seconds: float, scope: Scope = EVERYTHING) -> str | None:
        """Requests finished a second, a pod: from the counter, else from the count of the e2e histogram."""
        window = promql_duration(window_seconds)
        names = list(self.requests)
        if "e2e" in self.latency:
            names += [f"{name}_count" for name in self.latency["e2e"].names]
        parts = [
            f"sum by ({scope.grouping}) (rate({scope.select(n, self.matchers)}[{window}]))" for n in names
        ]
        return " or ".join(parts) if parts else None

    def latency_buckets_query(
        self, measure: Measure, window_seconds: float, scope: Scope = EVERYTHING
    ) -> str | None:
        """Bucket rates, a pod and ``le``; feed the answer to ``histogram.buckets_by_pod`` with
        ``latency[measure].unit``. ``None`` when the server has no such histogram.
        """
        histogram = self.latency.get(measure)
        if histogram is None:
            return None
        window = promql_duration(window_seconds)
        query = ""
        for name in histogram.names:
            selector = scope.select(f"{name}_bucket", self.matchers)
            part = f"sum by ({scope.grouping}, le) (rate({selector}[{window}]))"
            # A plain "or" would mix the buckets of both names where their bounds differ; this way one name
            # wins a pod.
            query = f"({query}) or ({part} unless on ({scope.grouping}) ({query}))" if query else part
        return query

    def _gauge(self, names: Names, scope: Scope, how: str = "sum") -> str:
        return " or ".join(f"{how} by ({scope.grouping}) ({scope.select(n, self.matchers)})" for n in names)


def promql_duration(seconds: float) -> str:
    """A PromQL duration; raises ``ValueError`` for less than a millisecond."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1:
        raise ValueError(f"window: got {seconds} s, expected at least 0.001 s")
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
