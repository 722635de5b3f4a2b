"""How many placeholders a workload gets: what a peak may need beyond what is planned, before a node comes.

    lead   = cold start + seconds that a new node takes
    level  = in-flight forecast over the lead (trend and season where they have earned it)
    peak   = level + deviations × sqrt(dispersion × level × lead / cold start)
    count  = min(most, min(maxReplicas, ceil(peak / in flight a replica)) − planned replicas)

The dispersion of the forecast's error is learned at the distance of a cold start; over a longer lead a
wandering load strays further, by the root of the time. A count grows at once and shrinks only when no larger
one was wanted for a whole lead, so that placeholders do not come and go with the noise. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from autoscaler.capacity import replicas_for
from autoscaler.forecast import Forecast
from cluster.warm_policy import Placeholders
from metrics.samples import NoData

_SHORTEST_LEAD_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Counts that were wanted, each with when; oldest first."""

    seen: tuple[tuple[float, int], ...] = ()

    def add(self, now: float, count: int, lead_seconds: float) -> Wanted:
        """Return the record with one more; what is older than the lead is dropped."""
        kept = tuple((at, one) for at, one in self.seen if now - at <= lead_seconds and one > count)
        return Wanted((*kept, (now, count)))

    @property
    def count(self) -> int:
        """The highest within the lead."""
        return max((count for _, count in self.seen), default=0)


def peak_in_flight(
    forecast: Forecast,
    *,
    cold_start_seconds: float,
    node_seconds: float,
    deviations: float,
    unix_seconds: float | NoData,
) -> float:
    """Return the in-flight to be ready for until a node asked for now serves."""
    lead = cold_start_seconds + node_seconds
    level = max(0.0, forecast.floor(lead_seconds=lead, unix_seconds=unix_seconds))
    longer = lead / max(cold_start_seconds, _SHORTEST_LEAD_SECONDS)
    spread = math.sqrt(max(1.0, forecast.dispersion) * level * max(1.0, longer))
    return level + deviations * spread


@dataclass(frozen=True, slots=True)
class Moment:
    """A workload now: ``planned`` replicas (decided, or there already) of at most ``max_replicas``, the
    measured cold start, and the times of both clocks.
    """

    planned: int
    max_replicas: int
    cold_start_seconds: float
    now: float
    unix_seconds: float | NoData


def placeholders_wanted(
    asked: Placeholders, forecast: Forecast | None, per_replica: float, before: Wanted, at: Moment
) -> tuple[Wanted, int]:
    """Return the record with what is wanted now, and how many placeholders there shall be."""
    count = 0
    if forecast is not None:
        peak = peak_in_flight(
            forecast,
            cold_start_seconds=at.cold_start_seconds,
            node_seconds=asked.node_seconds,
            deviations=asked.deviations,
            unix_seconds=at.unix_seconds,
        )
        count = placeholder_count(
            peak, per_replica, planned=at.planned, max_replicas=at.max_replicas, most=asked.most
        )
    wanted = before.add(at.now, count, at.cold_start_seconds + asked.node_seconds)
    return wanted, min(wanted.count, max(0, at.max_replicas - at.planned))


def placeholder_count(peak: float, per_replica: float, *, planned: int, max_replicas: int, most: int) -> int:
    """Return how many placeholders stand for what ``peak`` in flight needs beyond ``planned`` replicas."""
    needed = min(max_replicas, replicas_for(peak / per_replica))
    return max(0, min(most, needed - planned))
