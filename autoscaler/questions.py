"""What Prometheus is asked about all workloads and all their servers, by name.

    in flight, waiting, rate    every round, one question each: those of the servers are joined by ``or``,
                                tagged with the server, so that their number stays the same
    latency buckets, means,     every quarter of their window, every 15 s at the latest: one question a server
    stated quantiles, GPU       and measure, since they are over many series and may come later
                                (``slow_answers``)

The number of questions grows with the kinds of servers and the windows that policies name, never with the
workloads. Pure: query text out, no clock. The answers are read by ``autoscaler.answers``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal

from cluster.policy import AutoscalingPolicy
from metrics import dcgm
from metrics.servers import PRESETS, Scope, ServerPreset
from metrics.servers.means import means_query
from metrics.servers.preset import Measure
from metrics.units import TimeUnit

ABOUT: Final = "slicewise_about"
# Two scrapes at the usual 15 to 30 s fit in; short enough to call a workload idle within a minute or two.
RATE_WINDOW_SECONDS: Final = 60.0
SLOW_SECONDS: Final = 15.0

IN_FLIGHT: Final = "in flight"
WAITING: Final = "waiting"
RATE: Final = "rate"
GPU_WHOLE: Final = "gpu whole"
GPU_MIG: Final = "gpu mig"


@dataclass(frozen=True, slots=True)
class Buckets:
    """A latency histogram over a window; the bounds (seconds) whose share is wanted, none for a quantile."""

    measure: Measure
    window_seconds: float
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """What one policy wants to know of one server, by name: all that questions depend on."""

    server: str
    waiting: bool
    buckets: tuple[Buckets, ...]
    stated: tuple[Measure, ...]
    means: tuple[tuple[Measure, float], ...]
    gpu: bool


@dataclass(frozen=True, slots=True)
class Question:
    """One query. ``sole`` is what it is about when that is one thing alone: then its answer carries no tag.
    ``good_for_seconds``: 0 for the questions of every round. ``text`` makes the query; ``bounds`` in seconds
    are those near which the buckets of a histogram (``unit``) suffice, empty where all are needed.
    ``read_by``: how the answer will be read by pod, None where that is another's business.
    """

    text: Callable[[tuple[str, ...]], str]
    about: tuple[str, ...]
    sole: str | None = None
    good_for_seconds: float = 0.0
    bounds: tuple[float, ...] = ()
    unit: TimeUnit = "seconds"
    read_by: Literal["values", "parts", "buckets"] | None = None


def need_of(policy: AutoscalingPolicy, preset: ServerPreset) -> Need:
    """What ``policy`` wants to know of a workload that runs ``preset``."""
    slo, latency = policy.slo, policy.latency
    buckets: list[Buckets] = []
    if slo is not None and slo.measure in preset.latency:
        buckets.append(Buckets(slo.measure, slo.period_seconds, (slo.latency_seconds,)))
    if latency is not None and latency.measure in preset.latency:
        buckets.append(Buckets(latency.measure, latency.window_seconds))
    return Need(
        preset.name,
        slo is not None and preset.tells_waiting_of_in_flight,
        tuple(buckets),
        (latency.measure,) if latency is not None and latency.measure in preset.summaries else (),
        ((slo.measure, slo.period_seconds),) if slo is not None else (),
        policy.gpu_utilisation is not None,
    )


def questions(needs: Collection[Need], scope: Scope) -> dict[str, Question]:
    """The questions that ``needs`` come to, by name. Raises ValueError for a window that is none."""
    urgent: dict[str, dict[str, str]] = {}
    found: dict[str, Question] = {}

    def ask(
        name: str,
        about: str,
        query: str | None,
        good_for_seconds: float,
        read_by: Literal["values", "parts"] | None = None,
    ) -> None:
        if query is not None:
            found[name] = Question(lambda _: query, (query,), about, good_for_seconds, read_by=read_by)

    for need in sorted(needs, key=lambda need: need.server):
        preset = PRESETS[need.server]
        for name, query in (
            (IN_FLIGHT, preset.in_flight_query(scope)),
            (RATE, preset.request_rate_query(RATE_WINDOW_SECONDS, scope)),
            (WAITING, preset.waiting_query(scope) if need.waiting else None),
        ):
            if query is not None:
                urgent.setdefault(name, {})[preset.name] = query
        for measure in need.stated:
            name = about(preset, measure)
            query = preset.latency_summary_query(measure, scope)
            ask(stated_of(name), name, query, SLOW_SECONDS, "values")
        for measure, window in need.means:
            name = about(preset, measure)
            query = means_query(preset, (measure,), window, scope)
            ask(means_of(name, window), name, query, min(SLOW_SECONDS, window / 4.0), "parts")
        if need.gpu:
            for part, query in dcgm.queries(matchers=scope.matchers).items():
                ask(f"gpu {part}", "", query, SLOW_SECONDS)
    found |= _histograms(needs, scope)
    return found | {name: _joined(parts) for name, parts in urgent.items()}


def _histograms(needs: Collection[Need], scope: Scope) -> dict[str, Question]:
    """One question a server, measure and window; all buckets where some policy wants a quantile."""
    wanted: dict[tuple[str, Measure, float], set[Buckets]] = {}
    for need in needs:
        for buckets in need.buckets:
            wanted.setdefault((need.server, buckets.measure, buckets.window_seconds), set()).add(buckets)
    found: dict[str, Question] = {}
    for (server, measure, window), asked in sorted(wanted.items()):
        preset = PRESETS[server]
        bounds = tuple(sorted({bound for buckets in asked for bound in buckets.bounds}))
        if not all(buckets.bounds for buckets in asked):
            bounds = ()

        def text(
            spelled: tuple[str, ...],
            preset: ServerPreset = preset,
            measure: Measure = measure,
            window: float = window,
        ) -> str:
            return preset.latency_buckets_query(measure, window, scope, spelled) or ""

        name = about(preset, measure)
        found[buckets_of(name, window)] = Question(
            text,
            (text(()), *map(str, bounds)),
            name,
            min(SLOW_SECONDS, window / 4.0),
            bounds,
            preset.latency[measure].unit,
            "buckets",
        )
    return found


def about(preset: ServerPreset, measure: str) -> str:
    """What a question about a latency of a server is about."""
    return f"{preset.name} {measure}"


def buckets_of(about: str, window_seconds: float) -> str:
    """The name of the question for latency buckets over a window."""
    return f"buckets {about} {window_seconds:g} s"


def means_of(about: str, window_seconds: float) -> str:
    """The name of the question for means over a window."""
    return f"means {about} {window_seconds:g} s"


def stated_of(about: str) -> str:
    """The name of the question for the quantile that the server states."""
    return f"stated {about}"


def _joined(parts: dict[str, str]) -> Question:
    """One query for all parts; a part alone goes without a tag, which would only lengthen the answer."""
    if len(parts) == 1:
        ((sole, query),) = parts.items()
        return Question(lambda _: query, (query,), sole)
    query = " or ".join(
        f'label_replace({query}, "{ABOUT}", "{about}", "", "")' for about, query in sorted(parts.items())
    )
    return Question(lambda _: query, (query,))
