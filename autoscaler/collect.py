"""Gather the signals of all workloads: one question a metric for the whole cluster, then join by pod.

Prometheus knows pods, the API server knows whose pods they are. The number of queries depends on how many
kinds of model server, latency windows and guards the policies use, never on how many workloads there are.
Buckets of latency histograms are added over a workload's pods before the quantile is taken: a mean of
quantiles is no quantile. Requests that never reached a server (dropped before it) are in no histogram.

Absence stays absence: a workload with ready pods none of which reports gets ``NoData``, a single silent pod
is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from autoscaler.cold_start import ColdStarts
from autoscaler.pod_index import PodIndex
from autoscaler.pods import PodSight, Standing
from autoscaler.signals import NOT_ASKED, Signals
from autoscaler.targets import ScaleSight, Target
from cluster.autoscaling_policy import Slo
from cluster.policy import AutoscalingPolicy
from metrics import dcgm
from metrics.histogram import add_buckets, buckets_by_pod, quantile_from_buckets, share_above
from metrics.samples import NoData, Vector
from metrics.servers import EVERYTHING, Scope, ServerPreset, find_preset
from metrics.servers.preset import Measure
from metrics.units import TimeUnit, to_seconds

# Two scrapes at the usual 15 to 30 s fit in; short enough to call a workload idle within a minute or two.
RATE_WINDOW_SECONDS: Final = 60.0
UNSCHEDULABLE_AFTER_SECONDS: Final = 60.0

PodKey: TypeAlias = tuple[str, str]
Answers: TypeAlias = Mapping[str, Vector | NoData]


class Source(Protocol):
    """What is needed of Prometheus."""

    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        """Answer all queries at the same instant, each with a vector or with why there is none."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A target with its policy and what its scale said."""

    policy: AutoscalingPolicy
    sight: ScaleSight


class Collector:
    """Collects once a round. Keeps only the starts it has watched, for the measured cold start."""

    def __init__(
        self,
        source: Source,
        pods: PodIndex,
        *,
        scope: Scope = EVERYTHING,
        unschedulable_after_seconds: float = UNSCHEDULABLE_AFTER_SECONDS,
    ) -> None:
        self._source = source
        self._pods = pods
        self._scope = scope
        self._unschedulable_after = unschedulable_after_seconds
        self._starts: dict[Target, tuple[ColdStarts, frozenset[str]]] = {}

    def check(self, policy: AutoscalingPolicy) -> None:
        """Raise ValueError with what is wrong when no question can be made from ``policy``."""
        self._queries((policy,))

    def ask(self, workloads: Sequence[Workload], at: float) -> Callable[[Workload], Signals]:
        """Ask everything at Unix time ``at``; the result gives the signals of any one of ``workloads``.

        An outage raises nothing: it is in the signals.
        """
        queries = self._queries(workload.policy for workload in workloads)
        answers = self._source.query_many(queries, at) if queries else {}
        read = _Answers(answers, self._scope)
        wanted = {workload.sight.target for workload in workloads}
        self._starts = {target: kept for target, kept in self._starts.items() if target in wanted}
        return lambda workload: self._signals(workload, read, at)

    def _queries(self, policies: Iterable[AutoscalingPolicy]) -> dict[str, str]:
        queries: dict[str, str] = {}
        for policy in policies:
            preset = find_preset(policy.server)
            queries[_in_flight(preset)] = preset.in_flight_query(self._scope)
            rate = preset.request_rate_query(RATE_WINDOW_SECONDS, self._scope)
            if rate is not None:
                queries[_rate(preset)] = rate
            if policy.slo is not None:
                waiting = preset.waiting_query(self._scope) if preset.tells_waiting_of_in_flight else None
                if waiting is not None:
                    queries[_waiting(preset)] = waiting
                asked, period = policy.slo.measure, policy.slo.period_seconds
                finished = preset.latency_buckets_query(asked, period, self._scope)
                if finished is not None:
                    queries[_buckets(preset, asked, period)] = finished
            if policy.latency is not None:
                window = policy.latency.window_seconds
                buckets = preset.latency_buckets_query(policy.latency.measure, window, self._scope)
                if buckets is not None:
                    queries[_buckets(preset, policy.latency.measure, window)] = buckets
                stated = preset.latency_summary_query(policy.latency.measure, self._scope)
                if stated is not None:
                    queries[_stated(preset, policy.latency.measure)] = stated
            if policy.gpu_utilisation is not None:
                for part, query in dcgm.queries(matchers=self._scope.matchers).items():
                    queries[f"gpu {part}"] = query
        return queries

    def _signals(self, workload: Workload, read: _Answers, now: float) -> Signals:
        policy, target = workload.policy, workload.sight.target
        pods = self._pods.matching(target.namespace, workload.sight.selector)
        standings = {pod.uid: pod.standing(now, self._unschedulable_after) for pod in pods}
        present = [pod for pod in pods if standings[pod.uid] != "leaving"]
        count = _counter(standings.values())
        current, ready, stuck = workload.sight.replicas, count["ready"], count["unschedulable"]
        keys = [(pod.namespace, pod.name) for pod in present]
        preset = find_preset(policy.server)
        in_flight = read.total(_in_flight(preset), keys)
        reporting = read.by_pod(_in_flight(preset))
        silent = sum(
            1
            for pod in present
            if standings[pod.uid] == "ready" and (pod.namespace, pod.name) not in reporting
        )
        return Signals(
            current=current,
            ready=ready,
            # Pods that the workload's controller has not made yet are on their way too.
            starting=max(count["starting"], current - ready - stuck),
            unschedulable=stuck,
            silent=silent,
            in_flight=in_flight,
            request_rate=read.total(_rate(preset), keys),
            p95_seconds=NOT_ASKED if policy.latency is None else read.p95(preset, policy, keys),
            gpu_utilisation=NOT_ASKED if policy.gpu_utilisation is None else read.gpu(target, present),
            cold_start_seconds=self._cold_start(target, present),
            slo_missed=NOT_ASKED if policy.slo is None else read.missed(preset, policy.slo, keys),
            waiting=NOT_ASKED if policy.slo is None else read.total(_waiting(preset), keys),
            unix_seconds=now,
        )

    def _cold_start(self, target: Target, pods: Sequence[PodSight]) -> float | NoData:
        starts, counted = self._starts.get(target, (ColdStarts(), frozenset()))
        for pod in pods:
            if pod.start_seconds is not None and pod.uid not in counted:
                starts = starts.add(pod.start_seconds)
        self._starts[target] = (starts, frozenset(p.uid for p in pods if p.start_seconds is not None))
        return starts.measured()


class _Answers:
    """The answers of one round, split by pod once and shared by all workloads."""

    def __init__(self, answers: Answers, scope: Scope) -> None:
        self._answers = answers
        self._scope = scope
        self._values: dict[str, dict[PodKey, float]] = {}
        self._histograms: dict[str, dict[PodKey, dict[float, float]]] = {}

    def by_pod(self, name: str) -> dict[PodKey, float]:
        if name not in self._values:
            answer = self._answers.get(name)
            samples = answer.samples if isinstance(answer, Vector) else ()
            self._values[name] = {self._key(sample.labels): sample.value for sample in samples}
        return self._values[name]

    def total(self, name: str, pods: Sequence[PodKey]) -> float | NoData:
        """Sum over those of ``pods`` that report; NoData when none does."""
        answer = self._answers.get(name)
        if answer is None:
            return NoData("the server's preset has no such metric", "empty")
        if isinstance(answer, NoData) and answer.cause != "empty":
            return answer
        values = self.by_pod(name)
        found = [values[pod] for pod in pods if pod in values]
        return sum(found) if found else NoData(f"none of the {len(pods)} pods reports it", "empty")

    def p95(self, preset: ServerPreset, policy: AutoscalingPolicy, pods: Sequence[PodKey]) -> float | NoData:
        latency = policy.latency
        if latency is None:
            return NOT_ASKED
        summary = preset.summaries.get(latency.measure)
        if latency.measure not in preset.latency and summary is not None:
            return self._stated_p95(_stated(preset, latency.measure), summary.unit, pods)
        buckets = self._histogram(preset, latency.measure, latency.window_seconds, pods)
        return buckets if isinstance(buckets, NoData) else quantile_from_buckets(buckets, 0.95)

    def missed(self, preset: ServerPreset, slo: Slo, pods: Sequence[PodKey]) -> float | NoData:
        """Share of the requests finished in the last learning period that took longer than the bound."""
        buckets = self._histogram(preset, slo.measure, slo.period_seconds, pods)
        return buckets if isinstance(buckets, NoData) else share_above(buckets, slo.latency_seconds)

    def _histogram(
        self, preset: ServerPreset, measure: Measure, window_seconds: float, pods: Sequence[PodKey]
    ) -> dict[float, float] | NoData:
        """The latency histogram of ``pods`` together: rates by bound in seconds."""
        histogram = preset.latency.get(measure)
        if histogram is None:
            return NoData(f"server {preset.name} has no such latency histogram", "misconfigured")
        name = _buckets(preset, measure, window_seconds)
        answer = self._answers.get(name)
        if not isinstance(answer, Vector):
            return answer or NoData(f"server {preset.name} has no such latency histogram", "misconfigured")
        if name not in self._histograms:
            scope = self._scope
            self._histograms[name] = buckets_by_pod(
                answer, histogram.unit, scope.namespace_label, scope.pod_label
            )
        by_pod = self._histograms[name]
        found = [by_pod[pod] for pod in pods if pod in by_pod]
        if not found:
            return NoData(f"none of the {len(pods)} pods reports its latency", "empty")
        return add_buckets(found)

    def _stated_p95(self, name: str, unit: TimeUnit, pods: Sequence[PodKey]) -> float | NoData:
        """Quantiles of single pods cannot be added: the slowest pod speaks for all."""
        answer = self._answers.get(name, NOT_ASKED)
        if isinstance(answer, NoData):
            return answer
        values = self.by_pod(name)
        found = [values[pod] for pod in pods if pod in values]
        return to_seconds(max(found), unit) if found else NoData("no pod states its latency", "empty")

    def gpu(self, target: Target, pods: Sequence[PodSight]) -> float | NoData:
        whole = self._answers.get("gpu whole", NOT_ASKED)
        read = dcgm.utilisation(whole, self._answers.get("gpu mig", NOT_ASKED))
        if isinstance(read, NoData):
            return read
        found = read.workload(target.namespace, [pod.name for pod in pods])
        return found if isinstance(found, NoData) else found.ratio

    def _key(self, labels: Mapping[str, str]) -> PodKey:
        return labels.get(self._scope.namespace_label, ""), labels.get(self._scope.pod_label, "")


def _counter(standings: Iterable[Standing]) -> dict[Standing, int]:
    count: dict[Standing, int] = {"ready": 0, "starting": 0, "unschedulable": 0, "leaving": 0}
    for standing in standings:
        count[standing] += 1
    return count


def _in_flight(preset: ServerPreset) -> str:
    return f"{preset.name} in flight"


def _waiting(preset: ServerPreset) -> str:
    return f"{preset.name} waiting"


def _rate(preset: ServerPreset) -> str:
    return f"{preset.name} request rate"


def _stated(preset: ServerPreset, measure: str) -> str:
    return f"{preset.name} {measure} as the server states it"


def _buckets(preset: ServerPreset, measure: str, window_seconds: float) -> str:
    return f"{preset.name} {measure} buckets {window_seconds:g} s"
