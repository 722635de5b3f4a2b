"""What Prometheus is asked: one question a kind of signal for all workloads and all their servers together.

Each preset has its own queries; those of one kind are joined by ``or``, each tagged with what it is about, so
that the number of questions grows neither with the workloads nor with the servers they run, only with the
latency windows that policies name:

    in flight, waiting, rate                  every round
    buckets WINDOW, means WINDOW, stated      every quarter of their window at most, 15 s at the latest: they
                                              are over a window of past scrapes
    gpu whole, gpu mig                        every 15 s, where a policy guards by it

Pure: query text out, no clock. The answers are read by ``autoscaler.answers``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cluster.policy import AutoscalingPolicy
from metrics import dcgm
from metrics.servers import Scope, ServerPreset
from metrics.servers.means import means_query
from metrics.servers.preset import Measure

ABOUT: Final = "slicewise_about"
# Two scrapes at the usual 15 to 30 s fit in; short enough to call a workload idle within a minute or two.
RATE_WINDOW_SECONDS: Final = 60.0
SLOW_SECONDS: Final = 15.0

IN_FLIGHT: Final = "in flight"
WAITING: Final = "waiting"
RATE: Final = "rate"
STATED: Final = "stated"
GPU_WHOLE: Final = "gpu whole"
GPU_MIG: Final = "gpu mig"


@dataclass(frozen=True, slots=True)
class Need:
    """What one policy wants to know of one server: the part of a policy that questions depend on."""

    preset: ServerPreset
    waiting: bool
    buckets: tuple[tuple[Measure, float], ...]
    stated: tuple[Measure, ...]
    means: tuple[tuple[Measure, float], ...]
    gpu: bool

    def __hash__(self) -> int:  # a preset holds mappings; its name says which it is
        return hash((self.preset.name, self.waiting, self.buckets, self.stated, self.means, self.gpu))


@dataclass(frozen=True, slots=True)
class Question:
    """One query, how long its answer is good for (0: until the next round), and what it is about when that is
    one thing alone: then its answer carries no tag.
    """

    query: str
    good_for_seconds: float = 0.0
    sole: str | None = None


def need_of(policy: AutoscalingPolicy, preset: ServerPreset) -> Need:
    """What ``policy`` wants to know of a workload that runs ``preset``."""
    slo, latency = policy.slo, policy.latency
    buckets: list[tuple[Measure, float]] = []
    if slo is not None and slo.measure in preset.latency:
        buckets.append((slo.measure, slo.period_seconds))
    if latency is not None and latency.measure in preset.latency:
        buckets.append((latency.measure, latency.window_seconds))
    return Need(
        preset,
        slo is not None and preset.tells_waiting_of_in_flight,
        tuple(buckets),
        (latency.measure,) if latency is not None and latency.measure in preset.summaries else (),
        ((slo.measure, slo.period_seconds),) if slo is not None else (),
        policy.gpu_utilisation is not None,
    )


def questions(needs: Iterable[Need], scope: Scope) -> dict[str, Question]:
    """The questions that ``needs`` come to, by name. Raises ValueError for a window that is none."""
    parts: dict[str, dict[str, str]] = {}
    good: dict[str, float] = {}

    def ask(name: str, about: str, query: str | None, good_for_seconds: float = 0.0) -> None:
        if query is not None:
            parts.setdefault(name, {})[about] = query
            good[name] = good_for_seconds

    for need in sorted(set(needs), key=lambda need: need.preset.name):
        preset, server = need.preset, need.preset.name
        ask(IN_FLIGHT, server, preset.in_flight_query(scope))
        ask(RATE, server, preset.request_rate_query(RATE_WINDOW_SECONDS, scope))
        if need.waiting:
            ask(WAITING, server, preset.waiting_query(scope))
        for measure, window in need.buckets:
            query = preset.latency_buckets_query(measure, window, scope)
            ask(buckets_of(window), about(preset, measure), query, min(SLOW_SECONDS, window / 4.0))
        for measure in need.stated:
            ask(STATED, about(preset, measure), preset.latency_summary_query(measure, scope), SLOW_SECONDS)
        for measure, window in need.means:
            query = means_query(preset, (measure,), window, scope)
            ask(means_of(window), about(preset, measure), query, min(SLOW_SECONDS, window / 4.0))
        if need.gpu:
            for part, query in dcgm.queries(matchers=scope.matchers).items():
                ask(f"gpu {part}", "", query, SLOW_SECONDS)
    return {
        name: Question(_joined(found), good[name], next(iter(found)) if len(found) == 1 else None)
        for name, found in parts.items()
    }


def about(preset: ServerPreset, measure: str) -> str:
    """The tag of a latency of a server."""
    return f"{preset.name} {measure}"


def buckets_of(window_seconds: float) -> str:
    """The name of the question for latency buckets over a window."""
    return f"buckets {window_seconds:g} s"


def means_of(window_seconds: float) -> str:
    """The name of the question for means over a window."""
    return f"means {window_seconds:g} s"


def _joined(parts: dict[str, str]) -> str:
    """One query for all parts; a part alone goes without a tag, which would only lengthen the answer."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    return " or ".join(
        f'label_replace({query}, "{ABOUT}", "{about}", "", "")' for about, query in sorted(parts.items())
    )
