"""Recompute the price tables in the background and publish them by swapping one reference.

Each round: read a summary of the fleet and its demand under the fleet's lock (milliseconds), smooth the
demand into the expected mix, solve the LP off the lock, swap ``current``, then tell the decider to re-price
its cached shapes, so that the next request finds them ready. A round in which nothing changed only renews the
tables' age.

The thread outlives any error: it is logged and counted, the last tables stay in force, their age and
``status`` say so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cluster.periodic import Periodic
from scheduler.packing.forecast import Forecast
from scheduler.packing.host_tables import HostTables
from scheduler.packing.mix import expected_arrivals, mix_of, smooth
from scheduler.packing.prices import FleetSummary, PriceTables, solve_prices, unsolved
from scheduler.packing.shared_fleet import SharedTables
from scheduler.packing.shares import MILLI
from scheduler.packing.supply import HostPool

log = logging.getLogger(__name__)

_SAME = 0.005

Status = Literal["never", "optimal", "time_limit", "failed"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What prices follow from: the free capacity, the requests counted by class, those foreseen, and what the
    policy says. ``without_gpu``: milli-CPU and MiB of pods without a GPU on GPU nodes. ``waiting``: classes
    of which some pod waits for room; ``arrivals``: requests by class as they came (``arrivals``), empty where
    nobody counts them.
    """

    summary: FleetSummary
    observed: Mapping[str, float]
    prior: Mapping[str, float]
    half_life_seconds: float
    gpu_hour: float
    gpu_hour_by_model: Mapping[str, float]
    forecast: Mapping[str, Forecast] = field(default_factory=dict)
    without_gpu: tuple[float, float] = (0.0, 0.0)
    waiting: frozenset[str] = frozenset()
    arrivals: Mapping[str, float] = field(default_factory=dict)

    def price_of(self, model: str) -> float:
        """Money per hour of one whole GPU of the model."""
        return self.gpu_hour_by_model.get(model, self.gpu_hour)


@dataclass(frozen=True, slots=True)
class Round:
    """One pass of the loop. ``solved`` is False when nothing had changed."""

    status: Status
    solved: bool
    duration_seconds: float
    at_seconds: float


class PriceLoop(Periodic):
    """The background thread, and the tables it last published (``current``)."""

    def __init__(
        self,
        read: Callable[[], Conditions],
        *,
        clock: Callable[[], float],
        published: Callable[[PriceTables], None] = lambda tables: None,
        finished: Callable[[Round], None] = lambda done: None,
        period_seconds: float = 5.0,
        time_limit_seconds: float = 1.0,
    ) -> None:
        """``read`` is called each round; ``published`` after each new set of tables; ``finished``
        after every round.
        """
        super().__init__(
            "price-loop", self.step, period_seconds, if_failed="price tables: this round failed", at_once=True
        )
        self._read = read
        self._clock = clock
        self._published = published
        self._finished = finished
        self._time_limit = time_limit_seconds
        self._tables = unsolved()
        self._smoothed: dict[str, float] | None = None
        self._smoothed_at = 0.0
        self._last_input: tuple[object, ...] | None = None
        self._last: Round | None = None
        self._good_at: float | None = None

    def current(self) -> PriceTables:
        """The tables in force; version 0 before the first solve."""
        return self._tables

    def priced(self) -> bool:
        """Whether tables have been published."""
        return self._tables.version > 0

    def age_seconds(self) -> float | None:
        """Seconds since the tables were last confirmed, None before the first."""
        return None if self._good_at is None else max(0.0, self._clock() - self._good_at)

    def last(self) -> Round | None:
        """The last pass."""
        return self._last

    def step(self) -> Round:
        """One pass. Never raises."""
        started = self._clock()
        solved = False
        status: Status
        try:
            conditions = self._read()
            solved = self._solve(conditions, started)
            status = "optimal" if self._tables.converged else "time_limit"
            self._good_at = self._clock()
            if solved:
                self._published(self._tables)
        except Exception:
            log.exception("price tables: this round failed; version %d stays in force", self._tables.version)
            status = "failed"
        now = self._clock()
        self._last = Round(status, solved, now - started, now)
        try:
            self._finished(self._last)
        except Exception:
            log.exception("price tables: reporting this round failed")
        return self._last

    def _solve(self, conditions: Conditions, now: float) -> bool:
        self._smoothed = smooth(
            self._smoothed,
            conditions.observed,
            half_life_seconds=conditions.half_life_seconds,
            elapsed_seconds=now - self._smoothed_at,
        )
        self._smoothed_at = now
        mix = mix_of(
            self._smoothed,
            conditions.prior,
            conditions.summary.models.values(),
            forecast=conditions.forecast,
            without_gpu=conditions.without_gpu,
        )
        # Shares to three digits: a mix that only creeps towards its limit need not be solved again.
        total = sum(mix.counts.values()) or 1.0
        shares = tuple(sorted((name, round(count / total, 3)) for name, count in mix.counts.items()))
        summary = conditions.summary
        rates = tuple(conditions.price_of(name) for name in sorted(summary.models))
        spread = tuple(sorted((name, round(sd / total, 3)) for name, sd in mix.spread.items()))
        seen = (shares, spread, rates, tuple(sorted(summary.models)), *_states(summary))
        arrivals = expected_arrivals(conditions.arrivals, conditions.prior, conditions.forecast)
        came = sum(arrivals.values()) or 1.0
        seen += (conditions.waiting, tuple((name, round(n / came, 2)) for name, n in arrivals.items()))
        seen += tuple((pool.cpu_milli, pool.memory_mib, *_states(pool)) for pool in summary.hosts)
        if summary.shared is not None:
            shared = summary.shared
            seen += (shared.kinds, shared.kind.tobytes(), shared.cpu.tobytes(), shared.free.tobytes())
        if seen == self._last_input:
            return False
        found = solve_prices(
            summary,
            mix,
            conditions.price_of,
            self._tables,
            self._time_limit,
            conditions.waiting,
            arrivals,
        )
        self._last_input = seen if found.converged else None
        if self.priced() and difference(self._tables, found) <= _SAME:
            return False
        self._tables = found
        return True


def _states(found: FleetSummary | HostPool) -> tuple[object, ...]:
    states = (found.gpu_states, found.free_nodes, found.whole_nodes, found.static_instances)
    return tuple(tuple(sorted(state.items())) for state in states)


def difference(old: PriceTables, new: PriceTables) -> float:
    """The largest change of any value, as a share of the largest value; infinite when other models are
    priced.

    Every publication makes all cached price vectors stale: a cluster with arrivals every second would
    re-price them all the time for changes that no rank shows.
    """
    largest, change = 0.0, 0.0
    if not np.array_equal(old.gradient_cpu, new.gradient_cpu):
        return math.inf
    for name in ("gpu_value", "node_value", "whole_value", "gradient"):
        before, after = getattr(old, name), getattr(new, name)
        if before.keys() != after.keys():
            return math.inf
        for model, values in after.items():
            if values.shape != before[model].shape:
                return math.inf
            if name != "node_value":
                largest = max(largest, float(values.max(initial=0.0)))
            change = max(change, float(np.abs(values - before[model]).max(initial=0.0)))
    change = max(change, _host_change(old.hosts, new.hosts))
    if _shared_change(old.shared, new.shared) > _SAME:
        return math.inf
    prices = old.class_price
    if prices.keys() != new.class_price.keys():
        return math.inf
    return change / largest if largest > 0.0 else (math.inf if change else 0.0)


def _shared_change(old: SharedTables | None, new: SharedTables | None) -> float:
    """As a share of a GPU."""
    if old is None or new is None:
        return 0.0 if old is new else math.inf
    if old.kinds != new.kinds:
        return math.inf
    change = 0.0
    for before, after in (
        (old.prices.share, new.prices.share),
        (old.prices.whole, new.prices.whole),
        (old.prices.levels, new.prices.levels),
    ):
        if before.shape != after.shape:
            return math.inf
        change = max(change, float(np.abs(after - before).max(initial=0.0)) / MILLI)
    return change


def _host_change(old: HostTables | None, new: HostTables | None) -> float:
    if old is None or new is None:
        return 0.0 if old is new else math.inf
    if not np.array_equal(old.price, new.price):
        return math.inf
    change = 0.0
    for before, after in ((old.gpu, new.gpu), (old.node, new.node), (old.whole, new.whole)):
        for model, values in after.items():
            if model not in before or values.shape != before[model].shape:
                return math.inf
            change = max(change, float(np.abs(values - before[model]).max(initial=0.0)))
    if old.static.keys() != new.static.keys():
        return math.inf
    return change
