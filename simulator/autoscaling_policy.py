"""What every policy of the autoscaling study sees, and what it answers; many runs at a time.

Arrays hold one value a run. A number that could not be had is NaN, never 0. ``policies`` are pure but for the
memory that their own algorithm keeps; ``restarted`` makes them forget it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from simulator.autoscaling_demand import Ints
from simulator.autoscaling_trace import Floats

Values = TypeVar("Values", Ints, Floats)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Fewest and most replicas (one value for all runs), and requests that a replica serves at a time."""

    least: int
    most: int
    slots: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was scraped: sums over the pods that report (``in_flight`` is running and waiting), means a
    replica (``gpu_utilisation``, ``kv_usage``: shares), ``slo_missed``: the share of the last minute's first
    tokens and refusals that were misses, ``served_rps``: requests finished a second in that minute.
    """

    in_flight: Floats
    waiting: Floats
    gpu_utilisation: Floats
    kv_usage: Floats
    slo_missed: Floats
    served_rps: Floats
    silent: Ints

    @classmethod
    def unknown(cls, runs: int) -> Metrics:
        """Nothing could be had."""
        nothing = np.full(runs, np.nan)
        return cls(nothing, nothing, nothing, nothing, nothing, nothing, np.zeros(runs, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Seen:
    """The replicas as the API server has them now, and the newest metrics that are to be had.

    ``second_writer``: who else writes the replicas, for those who look.
    """

    current: Ints
    ready: Ints
    starting: Ints
    metrics: Metrics
    second_writer: str | None = None


class Autoscaler(Protocol):
    """``period_seconds`` between decisions; metrics every ``scrape_seconds``; ``direct``: from the pods
    themselves, so that a Prometheus that is down does not matter to the number of requests in flight.
    """

    period_seconds: float
    scrape_seconds: float
    direct: bool

    def decide(self, seen: Seen, now: float) -> Ints:
        """Replicas to set, one value a run."""
        ...

    def restarted(self) -> None:
        """The controller has just started: all that it kept in memory is gone."""
        ...


def whole(values: Floats) -> Ints:
    """Round up, but not for the last bit of a floating-point number."""
    return np.ceil(values - 1e-9).astype(np.int64)


def clamped(values: Ints, bounds: Bounds) -> Ints:
    """Keep between the bounds."""
    return between(values, bounds.least, bounds.most)


def between(values: Values, least: Values | int | float, most: Values | int | float) -> Values:
    """Keep between ``least`` and ``most``: ``np.clip`` in a third of its time, which counts in every step."""
    kept: Values = np.minimum(np.maximum(values, least), most)
    return kept
