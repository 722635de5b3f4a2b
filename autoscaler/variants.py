"""One model on several kinds of GPU: how many replicas of each variant, at the least price for its load.

The variants of a model serve the same requests behind one gateway: on one GPU instance of an H100, on three
of an A100, on an L40S. What one of them serves in time is ``capacity`` requests a second (by Little's law:
the requests in flight that it carries within the objective, over the seconds that a request spends there),
and what its next replica costs is the price of the placement it would get: money, fragmentation, carbon.
So capacity over price is requests in time for a unit of money, and the counts solve

    min   sum price * (count + new * (cold start / KEPT_SECONDS + WORTH_A_CHANGE))
    s.t.  sum capacity * count >= need,   least <= count <= most (what can be placed)

exactly (CP-SAT). A new replica costs its start-up as well, spread over the time for which it will be kept:
that is the hysteresis, with ``WORTH_A_CHANGE`` for what a change disturbs (prices move with every pod that
comes): a variant is not left for a gain that its successor's start eats up. What becomes superfluous goes
only as fast as its successors are Ready (``handed_over``), the dearest for its requests first.

``need`` is what the variants' own decisions ask for together, so headroom, windows and forecasts are theirs.
Pure. Does not route requests: that is the gateway's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ortools.sat.python import cp_model

KEPT_SECONDS: Final = 3600.0
WORTH_A_CHANGE: Final = 0.1
_UNITS: Final = 1_000_000
# Finer than prices: a need that some counts meet exactly is met by them, whatever their capacities round to.
_CAPACITY_UNITS: Final = 1_000_000_000
_TIME_LIMIT_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Variant:
    """``capacity``: requests a second in time by one replica; ``price``: money an hour for one more;
    ``current`` replicas asked for, ``ready`` of them; bounds ``least`` and ``most``; ``wanted`` by its own
    decision.
    """

    name: str
    capacity: float
    price: float
    current: int
    ready: int
    wanted: int
    least: int
    most: int
    cold_start_seconds: float

    @property
    def price_of_a_million(self) -> float:
        """Money for a million requests in time, at full load: what variants are compared by."""
        return self.price / (3600.0 * self.capacity) * 1e6


def need_rps(variants: Sequence[Variant]) -> float:
    """Requests a second that the variants' own decisions provide for."""
    return sum(one.capacity * one.wanted for one in variants)


def cheapest(variants: Sequence[Variant], need: float) -> Mapping[str, int]:
    """The counts of the formula above, by name; everything at its most where even that is too little.

    Raises ValueError for a capacity or a price that is not positive.
    """
    for one in variants:
        if not (one.capacity > 0.0 and one.price > 0.0):
            raise ValueError(
                f"variant {one.name}: got capacity {one.capacity:g} and price {one.price:g}, expected both "
                "above 0"
            )
    if sum(one.capacity * one.most for one in variants) <= need:
        return {one.name: one.most for one in variants}
    model = cp_model.CpModel()
    most_capacity = max(one.capacity for one in variants)
    most_price = max(one.price for one in variants)
    counts, costs, served = [], [], []
    for one in variants:
        count = model.new_int_var(one.least, max(one.least, one.most), one.name)
        fresh = model.new_int_var(0, max(one.least, one.most), f"new {one.name}")
        model.add(fresh >= count - one.current)
        price = max(1, round(one.price / most_price * _UNITS))
        start = round(price * (one.cold_start_seconds / KEPT_SECONDS + WORTH_A_CHANGE))
        counts.append(count)
        costs.append(price * count + start * fresh)
        served.append(round(one.capacity / most_capacity * _CAPACITY_UNITS) * count)
    # Every replica may have lost half a unit to rounding, and the need one.
    rounded = 1 + sum(max(one.least, one.most) for one in variants)
    model.add(sum(served) >= math.floor(need / most_capacity * _CAPACITY_UNITS) - rounded)
    model.minimize(sum(costs))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = _TIME_LIMIT_SECONDS
    for count, one in zip(counts, variants, strict=True):
        model.add_hint(count, one.current)
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return {one.name: max(one.least, min(one.most, one.wanted)) for one in variants}
    return {one.name: solver.value(count) for one, count in zip(variants, counts, strict=True)}


def handed_over(variants: Sequence[Variant], counts: Mapping[str, int], need: float) -> dict[str, int]:
    """``counts`` as far as they may be set now: whoever shrinks keeps what others are not yet Ready to serve.

    A replica that is not Ready serves nothing and may go at once.
    """
    found = {one.name: counts[one.name] for one in variants}
    ready = {one.name: min(one.ready, counts[one.name]) for one in variants}
    missing = need - sum(one.capacity * ready[one.name] for one in variants)
    # Keep the cheapest for its requests first: the dearest goes as soon as anything can go.
    for one in sorted(variants, key=lambda one: (one.price / one.capacity, one.name)):
        spare = min(one.ready, one.current) - ready[one.name]
        if missing <= 1e-9 or spare <= 0:
            continue
        kept = min(spare, math.ceil(missing / one.capacity - 1e-9))
        found[one.name] = max(found[one.name], ready[one.name] + kept)
        missing -= kept * one.capacity
    return found
