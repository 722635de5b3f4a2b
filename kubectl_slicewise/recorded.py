"""What Prometheus recorded of one workload, minute by minute: requests, in flight, pods, cold start."""

from __future__ import annotations

import statistics

from cluster.autoscaling_policy import AutoscalingPolicy
from kubectl_slicewise.prometheus_flags import no_answer
from metrics.prometheus import Prometheus
from metrics.samples import NoData
from metrics.servers import PRESETS, Scope, ServerPreset
from metrics.servers.detect import detection_query, present
from simulator.autoscaling_trace import TraceRefused
from simulator.tuning_history import MINUTE_SECONDS, Recorded

# A range query may return 11,000 points a series; a day of minutes is 1,440.
_CHUNK_SECONDS = 86_400.0


def recorded(
    source: Prometheus,
    policy: AutoscalingPolicy,
    *,
    namespace: str,
    pods: str,
    until: float,
    days: float,
    matchers: str = "",
) -> Recorded:
    """Read the last ``days`` until Unix time ``until``. ``pods`` is a regular expression for pod names.

    Raises TraceRefused with what Prometheus said where it has no requests of them.
    """
    own = f'namespace="{namespace}", pod=~"{pods}"'
    scope = Scope(matchers=f"{own}, {matchers}" if matchers else own)
    preset = _preset(source, policy.server, scope, until)
    rate = preset.request_rate_query(MINUTE_SECONDS, scope)
    if rate is None:
        raise TraceRefused(f"server: {preset.name} counts no requests; give a trace with --trace")
    in_flight = preset.in_flight_query(scope)
    asked = {
        "requests": f"{MINUTE_SECONDS:g} * sum({rate})",
        "in flight": f"sum({in_flight})",
        "pods": f"count({in_flight})",
    }
    found = {name: _minutes(source, query, until, days) for name, query in asked.items()}
    requests = found["requests"]
    if isinstance(requests, NoData) and requests.cause != "empty":
        raise TraceRefused(no_answer(requests.reason))
    if isinstance(requests, NoData):
        raise TraceRefused(
            f"{source.url}: {requests.reason} for {preset.name} in pods {pods!r} of namespace {namespace} "
            f"within {days:g} days; check the server's name, -n and --pods"
        )
    in_flights, counted = found["in flight"], found["pods"]
    return Recorded(
        requests,
        {} if isinstance(in_flights, NoData) else in_flights,
        {} if isinstance(counted, NoData) else counted,
    )


def cold_start_seconds(
    source: Prometheus, *, namespace: str, pods: str, until: float, days: float
) -> float | NoData:
    """Median seconds from a pod's creation to Ready, as kube-state-metrics recorded them."""
    own = f'{{namespace="{namespace}", pod=~"{pods}"}}'
    query = f"max by (pod) (kube_pod_status_ready_time{own} - on (namespace, pod) kube_pod_created{own})"
    found: dict[str, float] = {}
    for start, end in _chunks(until, days):
        answer = source.query_range(query, start, end, 5.0 * MINUTE_SECONDS)
        if isinstance(answer, NoData):
            continue
        for series in answer:
            # A pod that was ready before and became so again would seem slow to start: the first counts.
            least = min((value for _, value in series.points if value > 0.0), default=None)
            if least is not None:
                pod = series.labels.get("pod", "")
                found[pod] = min(least, found.get(pod, least))
    if not found:
        return NoData("kube-state-metrics recorded no start of these pods", "empty")
    return statistics.median(found.values())


def _preset(source: Prometheus, server: str, scope: Scope, at: float) -> ServerPreset:
    if server in PRESETS:
        return PRESETS[server]
    if server != "auto":
        raise TraceRefused(f"server: got {server!r}, expected auto or one of {', '.join(PRESETS)}")
    marks = source.query(detection_query(scope), at)
    if isinstance(marks, NoData) and marks.cause != "empty":
        raise TraceRefused(no_answer(marks.reason))
    seen = () if isinstance(marks, NoData) else present(marks, scope)
    if not seen:
        raise TraceRefused(
            f"server: auto, but no pod shows the marks of a known server now ({scope.matchers}); name the "
            f"server in the policy, one of {', '.join(PRESETS)}"
        )
    return seen[0]


def _minutes(source: Prometheus, query: str, until: float, days: float) -> dict[int, float] | NoData:
    """One value a Unix minute; an outage of Prometheus in the middle is the answer for all."""
    found: dict[int, float] = {}
    absent = NoData("nothing was recorded", "empty")
    for start, end in _chunks(until, days):
        answer = source.query_range(query, start, end, MINUTE_SECONDS)
        if isinstance(answer, NoData):
            if answer.cause != "empty":
                return answer
            continue
        for series in answer:
            found |= {round(at / MINUTE_SECONDS): value for at, value in series.points}
    return found or absent


def _chunks(until: float, days: float) -> list[tuple[float, float]]:
    end = until - until % MINUTE_SECONDS
    first = end - days * _CHUNK_SECONDS
    found = []
    while first < end:
        last = min(end, first + _CHUNK_SECONDS - MINUTE_SECONDS)
        found.append((first, last))
        first = last + MINUTE_SECONDS
    return found
