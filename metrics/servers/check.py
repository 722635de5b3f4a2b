"""What a live Prometheus really tells of the model servers that run: signal by signal, with what is missing.

For each namespace and server: how many pods show its marks, and for each signal that the preset knows how
many of those pods have a value now. A signal that some or all pods lack is a finding, with what follows from
it for scaling. Reads only; the questions are the controller's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from metrics.samples import NoData, Sample, Vector
from metrics.servers import EVERYTHING, PRESETS, Scope, ServerPreset
from metrics.servers.detect import PodKey, detect, detection_query

RATE_WINDOW_SECONDS: Final = 60.0

_CONSEQUENCE: Final[Mapping[str, str]] = {
    "in flight": "the workload cannot be scaled by this server's metrics",
    "rate": "idle cannot be told from silent",
    "e2e": "no end-to-end latency term",
    "ttft": "no time-to-first-token term",
    "itl": "no inter-token term",
    "tokens": "what a replica can carry is not learned; state inFlight.perReplica",
}


class Source(Protocol):
    """What is needed of Prometheus."""

    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        """Answer all queries at the same instant, each with a vector or with why there is none."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal of one server in one namespace: pods that have it, their total (None where a total means
    nothing), and what is missing ("" where nothing is).
    """

    name: str
    pods: int
    total: float | None
    finding: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A server in a namespace: its pods by name, other marks they show, and the signals."""

    namespace: str
    server: str
    pods: tuple[str, ...]
    others: tuple[str, ...]
    signals: tuple[Signal, ...]


def check(source: Source, at: float, scope: Scope = EVERYTHING) -> tuple[Seen, ...] | NoData:
    """Every server that is scraped, by namespace and name; NoData with the reason when Prometheus does not
    answer. An empty tuple means that it answered and knows of none.
    """
    answer = source.query_many({"servers": detection_query(scope)}, at)["servers"]
    if isinstance(answer, NoData):
        return () if answer.cause == "empty" else answer
    found = detect(answer, scope)
    groups: dict[tuple[str, str], list[PodKey]] = {}
    for pod, seen in sorted(found.items()):
        groups.setdefault((pod[0], seen.server), []).append(pod)
    questions: dict[str, str] = {}
    for server in sorted({server for _, server in groups}):
        for name, query in signal_queries(PRESETS[server], scope).items():
            questions[f"{server} {name}"] = query
    answers = source.query_many(questions, at)
    return tuple(
        Seen(
            namespace,
            server,
            tuple(pod for _, pod in pods),
            tuple(sorted({other for pod in pods for other in found[pod].others})),
            tuple(
                _signal(name, pods, answers[f"{server} {name}"], scope)
                for name in signal_queries(PRESETS[server], scope)
            ),
        )
        for (namespace, server), pods in groups.items()
    )


def signal_queries(preset: ServerPreset, scope: Scope = EVERYTHING) -> dict[str, str]:
    """The queries of every signal that the server should have."""
    asked = {
        "in flight": preset.in_flight_query(scope),
        "rate": preset.request_rate_query(RATE_WINDOW_SECONDS, scope),
    }
    for measure in ("e2e", "ttft", "itl"):
        buckets = preset.latency_buckets_query(measure, RATE_WINDOW_SECONDS, scope)
        asked[measure] = buckets or preset.latency_summary_query(measure, scope)
    if preset.tokens_out:
        totals = [mean.total for mean in preset.tokens_out]
        asked["tokens"] = preset.rates_by_pod(totals, RATE_WINDOW_SECONDS, scope)
    return {name: query for name, query in asked.items() if query is not None}


def _signal(name: str, pods: Sequence[PodKey], answer: Vector | NoData, scope: Scope) -> Signal:
    if isinstance(answer, NoData) and answer.cause != "empty":
        return Signal(name, 0, None, f"Prometheus: {answer.reason}")
    values = _values(answer.samples if isinstance(answer, Vector) else (), scope)
    told = [pod for pod in pods if pod in values]
    total = sum(values[pod] for pod in told) if name in ("in flight", "rate") and told else None
    missing = len(pods) - len(told)
    finding = f"missing on {missing} of {len(pods)} pods: {_CONSEQUENCE[name]}" if missing else ""
    return Signal(name, len(told), total, finding)


def _values(samples: Iterable[Sample], scope: Scope) -> dict[PodKey, float]:
    values: dict[PodKey, float] = {}
    for sample in samples:
        labels, value = sample.labels, sample.value
        pod = labels.get(scope.namespace_label, ""), labels.get(scope.pod_label, "")
        values[pod] = values.get(pod, 0.0) + value
    return values
