"""What a model server exports, and the PromQL that reads it: one query a metric for all workloads at once.

Queries group by namespace and pod and by nothing else; which pod belongs to which workload is known to the
API server, not to Prometheus. Where a server renamed a metric, both names are asked for and the newer wins
a pod. Series that must add up (running + waiting) are added with ``+``: a pod that lacks one of them is
absent, never undercounted.

A server without a gauge of requests in flight may still count the time that requests spent in it: the rate
of that counter is the mean number in the server over the window (Little's law, L = arrivals per second x
seconds each). It knows finished requests only, so it lags by a request's duration; a gauge goes before it.

Pure: text in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from metrics.units import UNITS_PER_SECOND, TimeUnit

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
class LatencySummary:
    """Quantiles that the server computes itself: the label ``quantile`` tells which. They cannot be added
    over pods, so the slowest pod speaks.
    """

    names: Names
    unit: TimeUnit = "seconds"


@dataclass(frozen=True, slots=True)
class BusyTime:
    """Counters of the time that finished requests spent in the server, all of them added, in ``unit``."""

    names: Names
    unit: TimeUnit = "seconds"


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean a request: the rate of the counter ``total`` over the rate of the counter ``count``. Both are
    exported together, or neither counts for a pod.
    """

    total: str
    count: str

    @classmethod
    def of_histogram(cls, name: str) -> Mean:
        """The mean of what a histogram observes; ``name`` is its base name."""
        return cls(f"{name}_sum", f"{name}_count")


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
        """A selector. A name that PromQL cannot write by itself (it starts with a colon, or has dots) goes
        into the braces.
        """
        if not _PLAIN_NAME.fullmatch(name):
            return self.braces(f'__name__="{name}"', matchers)
        return name + self.braces(matchers) if matchers or self.matchers else name

    def braces(self, *matchers: str) -> str:
        """Label matchers and the scope's own, as a selector without a name before it."""
        return "{" + ", ".join(part for part in (*matchers, self.matchers) if part) + "}"


EVERYTHING = Scope()

_PLAIN_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_:]*")
_BUSY_WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServerPreset:
    """Names of a model server's metrics.

    ``in_flight`` lists gauges whose **sum** is the number of requests in the server, ``in_flight_where_told``
    gauges that are added for a pod as far as it has them (it is not the serving pod's duty to export all);
    where a pod has none of them, ``busy_time`` stands in. ``requests`` counts finished requests;
    ``cache_usage`` is a ratio from 0 to 1. ``per_pod`` tells how series of one pod become one number: "sum",
    or "max" where each rank of one engine exports the same requests. ``pod_label`` and ``namespace_label``:
    the labels that name the serving pod where the series say it themselves (a proxy that reports for others).
    ``signature``: names by which the server is recognised, of series that ``matchers`` select; one of them is
    enough. ``only_the_door``: what it tells is a proxy's view of the pod, so marks of any other server go
    before its own. ``tokens_in`` and ``tokens_out``: tokens of the prompt and of the answer a request, newest
    release first.

    ``without_probes``: label matchers that leave the kubelet's probes out of what is counted, where a server
    counts them like requests: a fast probe a second hides slow requests and makes an idle pod look busy.

    ``port`` and ``path``: where a pod of this server serves its metrics when the pod does not say; None
    where there is no port of its own.
    """

    name: str
    in_flight: tuple[Names, ...] = ()
    in_flight_where_told: Names = ()
    latency: Mapping[Measure, LatencyHistogram] = field(default_factory=dict)
    requests: Names = ()
    running: Names = ()
    waiting: Names = ()
    cache_usage: Names = ()
    matchers: str = ""
    without_probes: str = ""
    busy_time: BusyTime | None = None
    summaries: Mapping[Measure, LatencySummary] = field(default_factory=dict)
    per_pod: Literal["sum", "max"] = "sum"
    pod_label: str = ""
    namespace_label: str = ""
    signature: Names = ()
    only_the_door: bool = False
    tokens_in: tuple[Mean, ...] = ()
    tokens_out: tuple[Mean, ...] = ()
    port: int | None = None
    path: str = "/metrics"

    def in_flight_query(self, scope: Scope = EVERYTHING, window_seconds: float = _BUSY_WINDOW_SECONDS) -> str:
        """Requests in the server now, a pod: running and waiting; by ``busy_time`` the mean over the
        window.
        """
        gauges = " + ".join(f"({self._gauge(names, scope)})" for names in self.in_flight)
        if self.in_flight_where_told:
            anyone = f'__name__=~"{"|".join(self.in_flight_where_told)}"'
            gauges = self._by_pod(scope.braces(anyone, self.matchers), scope)
        if self.busy_time is None:
            return gauges
        busy = self._busy(self.busy_time, window_seconds, scope)
        return f"({gauges}) or ({busy})" if gauges else busy

    def running_query(self, scope: Scope = EVERYTHING) -> str | None:
        """Requests being worked on, a pod; ``None`` when the server does not tell."""
        return self._gauge(self.running, scope) if self.running else None

    def waiting_query(self, scope: Scope = EVERYTHING) -> str | None:
        """Requests in the server's queue, a pod; ``None`` when the server does not tell."""
        return self._gauge(self.waiting, scope) if self.waiting else None

    @property
    def tells_waiting_of_in_flight(self) -> bool:
        """Whether ``waiting`` is a part of what ``in_flight_query`` counts, and running is the rest: not so
        where the queue is all that is known, or where in flight is a mean over finished requests.
        """
        return bool(self.running and self.waiting)

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
        parts = [self._by_pod(f"rate({scope.select(n, self._counted)}[{window}])", scope) for n in names]
        return " or ".join(parts) if parts else None

    def latency_buckets_query(
        self,
        measure: Measure,
        window_seconds: float,
        scope: Scope = EVERYTHING,
        bounds: Sequence[str] = (),
    ) -> str | None:
        """Bucket rates, a pod and ``le``; feed the answer to ``histogram.buckets_by_pod`` with
        ``latency[measure].unit``. ``bounds``: only the buckets with these values of ``le``, as the server
        spells them. ``None`` when the server has no such histogram.
        """
        histogram = self.latency.get(measure)
        if histogram is None:
            return None
        window = promql_duration(window_seconds)
        query = ""
        spelled = "|".join(re.escape(bound).replace("\\", "\\\\") for bound in bounds)
        matchers = ", ".join(part for part in (f'le=~"{spelled}"' if bounds else "", self._counted) if part)
        for name in histogram.names:
            selector = scope.select(f"{name}_bucket", matchers)
            part = self._by_pod(f"rate({selector}[{window}])", scope, self.per_pod, ", le")
            # A plain "or" would mix the buckets of both names where their bounds differ; this way one name
            # wins a pod.
            query = f"({query}) or ({part} unless on ({scope.grouping}) ({query}))" if query else part
        return query

    def latency_summary_query(self, measure: Measure, scope: Scope = EVERYTHING) -> str | None:
        """The 95th percentile as the server states it, a pod, in ``summaries[measure].unit``; ``None``
        when it states none.
        """
        summary = self.summaries.get(measure)
        if summary is None:
            return None
        matchers = ", ".join(part for part in ('quantile="0.95"', self.matchers) if part)
        parts = [self._by_pod(scope.select(name, matchers), scope, "max") for name in summary.names]
        return " or ".join(parts)

    def rates_by_pod(self, names: Sequence[str], window_seconds: float, scope: Scope) -> str:
        """Rate a second of a counter, a pod, by the first of ``names`` that the pod has."""
        window = promql_duration(window_seconds)
        parts = [
            self._by_pod(f"rate({scope.select(name, self._counted)}[{window}])", scope, self.per_pod)
            for name in names
        ]
        return " or ".join(parts)

    def busy_query(self, window_seconds: float, scope: Scope = EVERYTHING) -> str | None:
        """Seconds a second that finished requests spent in the server, a pod; ``None`` when nothing counts
        them.
        """
        return None if self.busy_time is None else self._busy(self.busy_time, window_seconds, scope)

    @property
    def _counted(self) -> str:
        """The matchers of counters and histograms."""
        return ", ".join(part for part in (self.matchers, self.without_probes) if part)

    def _gauge(self, names: Names, scope: Scope, how: str = "") -> str:
        parts = [self._by_pod(scope.select(n, self.matchers), scope, how or self.per_pod) for n in names]
        return " or ".join(parts)

    def _busy(self, busy: BusyTime, window_seconds: float, scope: Scope) -> str:
        window = promql_duration(window_seconds)
        parts = [
            f"({self._by_pod(f'rate({scope.select(name, self.matchers)}[{window}])', scope)})"
            for name in busy.names
        ]
        units = UNITS_PER_SECOND[busy.unit]
        total = " + ".join(parts)
        return total if units == 1.0 else f"({total}) / {units:.0f}"

    def _by_pod(self, expression: str, scope: Scope, how: str = "sum", more: str = "") -> str:
        """Aggregate to one series a pod, under the scope's own label names."""
        for label, own in ((scope.pod_label, self.pod_label), (scope.namespace_label, self.namespace_label)):
            if own and own != label:
                expression = f'label_replace({expression}, "{label}", "$1", "{own}", "(.+)")'
        return f"{how} by ({scope.grouping}{more}) ({expression})"


def promql_duration(seconds: float) -> str:
    """A PromQL duration; raises ``ValueError`` for less than a millisecond."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1:
        raise ValueError(f"window: got {seconds} s, expected at least 0.001 s")
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
