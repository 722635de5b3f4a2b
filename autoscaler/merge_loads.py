"""One number of requests in flight out of two sources: Prometheus, and the pods' own pages (``scrape``).

A page is one or two seconds old, Prometheus' sample as old as its scrape interval allows, so a pod's page
goes before Prometheus where both tell of it, and either alone suffices. Above a number of pods only a sample
is asked:

    pod asked, page fresh       its page
    pod asked, no fresh page    Prometheus
    pod not asked               Prometheus x max(1, pages / Prometheus), both summed over the pods that both
                                tell of; the mean of the pages where Prometheus has nothing of it and it
                                is ready (one that starts carries nothing)

so a burst that the sample shows is taken for a burst of all, and a lull is believed of the others when
Prometheus sees it. With no Prometheus at all that comes to (sum of the pages) x pods / pods asked. Where
both tell of the same pods and differ by more than chance and a scrape interval explain
(``RELATIVE_BOUND``, ``DEVIATIONS``), the larger of the two sums counts: replicas too many cost less than
replicas too few. Pure; what the disagreement means over time is the collector's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from math import sqrt
from typing import Final

from metrics.samples import NoData
from metrics.servers.page import PageLoad

# Requests come and go between two looks: so much is no contradiction (share, and square roots of the load).
RELATIVE_BOUND: Final = 0.25
DEVIATIONS: Final = 2.0
# Of the pods asked, so many must have a fresh page before it is taken for that of the others.
LEAST_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Apart:
    """What both sources say of the same pods, when that cannot both be true."""

    pods: int
    pages: float
    prometheus: float


@dataclass(frozen=True, slots=True)
class Told:
    """What Prometheus says of a workload's pods, by pod name; ``missing`` says why where it says nothing."""

    in_flight: Mapping[str, float]
    waiting: Mapping[str, float]
    missing: NoData


@dataclass(frozen=True, slots=True)
class MergedLoad:
    """``in_flight`` and ``waiting`` of all pods together; ``silent`` ready pods of which nobody tells;
    ``by_pod`` what was measured (not estimated), by pod name.
    """

    in_flight: float | NoData
    waiting: float | NoData
    silent: int
    by_pod: Mapping[str, float]
    apart: Apart | None = None


def merged(
    present: Sequence[str], ready: Set[str], told: Told, pages: Mapping[str, PageLoad], asked: Set[str]
) -> MergedLoad:
    """Merge what is known of the pods ``present``, by name; ``pages``: the fresh ones of those ``asked``."""
    pages = {name: pages[name] for name in present if name in pages}
    both = [name for name in pages if name in told.in_flight]
    by_pages = sum(pages[name].in_flight for name in both)
    by_prometheus = sum(told.in_flight[name] for name in both)
    apart = (
        Apart(len(both), by_pages, by_prometheus) if both and contradict(by_pages, by_prometheus) else None
    )
    distrusted = set(both) if apart is not None and by_prometheus > by_pages else set[str]()
    # A few pods say nothing of the others; half of the sample does.
    speaks = bool(pages) and len(pages) >= LEAST_SHARE * sum(name in asked for name in present)
    growth = max(1.0, by_pages / by_prometheus) if by_prometheus > 0.0 else 1.0
    typical = sum(page.in_flight for page in pages.values()) / len(pages) if speaks else None
    by_pod: dict[str, float] = {}
    in_flight = waiting = 0.0
    queue_known, estimated, silent = True, 0, 0
    for name in present:
        page = None if name in distrusted else pages.get(name)
        factor = 1.0
        if page is not None:
            load, queue = page.in_flight, page.waiting
            by_pod[name] = load
        elif name in told.in_flight:
            load, queue = told.in_flight[name], told.waiting.get(name)
            by_pod[name] = load
            if typical is not None and name not in asked:
                factor = growth
        elif typical is not None and name not in asked and name in ready:
            estimated += 1
            continue
        else:
            silent += name in ready
            continue
        in_flight += load * factor
        queue_known = queue_known and queue is not None
        waiting += (queue or 0.0) * factor
    if not by_pod:
        return MergedLoad(told.missing, told.missing, silent, by_pod)
    if estimated and typical is not None:
        queues = [page.waiting or 0.0 for page in pages.values()]
        in_flight += estimated * typical
        waiting += estimated * sum(queues) / len(queues)
    no_queue = NoData("not every pod tells how much of its load waits", "empty")
    return MergedLoad(in_flight, waiting if queue_known else no_queue, silent, by_pod, apart)


def contradict(one: float, other: float) -> bool:
    """Whether two counts of the same requests are further apart than chance and a scrape interval explain."""
    larger = max(one, other)
    return abs(one - other) > RELATIVE_BOUND * larger + DEVIATIONS * sqrt(larger)
