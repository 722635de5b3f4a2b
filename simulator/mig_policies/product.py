"""``slicewise-installed`` and what is left of it with other orders: placement by exactly what the installed
product computes.

The price loop (``scheduler.price_loop``) runs on the simulated clock with its period: demand counted as the
fleet's view counts it (what runs and what waits, smoothed), the packing LP, the value tables of
``scheduler.packing.mig_tables``. Starts follow from ``dra.device_order`` on the table as the driver reads it.
Memory grid only: it is the hardware's.

- ``slicewise-installed``: the extender chooses the node by the price of what first-fit will take there; on it
  first-fit takes the cheapest GPU and start, as the driver publishes them in that order (``dra.node_order``).
  So the cheapest card of all. To be compared with ``slicewise-webhook``, the rule as the study states it.
- ``slicewise-gpu-slices``: the same with one slice a GPU, as in Kubernetes 1.34: first-fit takes the first
  GPU with room, on it the first start in published order. To be compared with ``slicewise-node``.
- ``driver-ascending``, ``driver-descending``: as the last with a driver that publishes the lowest, or
  highest, start first, whatever is occupied. The extender prices what that gives.

As the rule they are told which profiles there are (one request of each in the policy's ``demand.classes``)
and not in what shares. All cards are of one model: what a free one is worth then scales all values alike and
changes no choice, so the loop runs only when what the table follows from has changed. What the product knows
otherwise: tables up to a period old, and a pod that has waited counts as waiting also while it is being
placed itself.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType

from cluster.policy import ClusterPolicy
from dra.catalog import GpuModel
from dra.device_order import OrderTable, device_order, order_table
from dra.placement import Placement, placements
from scheduler.arrivals import fold
from scheduler.packing.mig_values import rounded_shares
from scheduler.packing.mix import expected_arrivals
from scheduler.packing.prices import PriceTables
from scheduler.packing.supply import FleetSummary
from scheduler.price_loop import Conditions, PriceLoop
from simulator.mig_grid import StudyRefused
from simulator.mig_policy import Choice, Fleet

PERIOD_SECONDS = 5.0
_WAITS_AFTER_SECONDS = 2.0
_ROUND = 9
_MOST_PROFILES = 64


class Installed:
    """Least money lost over all cards."""

    def __init__(self) -> None:
        self._fleet: Fleet | None = None
        self._loop = PriceLoop(self._read, clock=self._now, period_seconds=PERIOD_SECONDS)
        self._stepped_at = float("-inf")
        self._conditions: Conditions | None = None
        self._shaped_by: object = None
        self._orders: tuple[int, OrderTable] | None = None
        self._policy = ClusterPolicy()
        self._arrivals: dict[str, float] = {}
        self._counted = [0] * _MOST_PROFILES

    def choose(self, fleet: Fleet, profile: int) -> Choice | None:
        self._fleet = fleet
        if fleet.now >= self._stepped_at + PERIOD_SECONDS:
            self._stepped_at = fleet.now
            self._conditions = self._look(fleet)
            shaped_by = _shaped_by(self._conditions)
            if shaped_by != self._shaped_by:
                self._shaped_by = shaped_by
                self._loop.step()
        tables = self._loop.current()
        best: tuple[float, int, int] | None = None
        for card in self._cards(fleet, profile):
            bits = self._first_bits(fleet, tables, profile, fleet.states[card])
            if bits:
                worth = tables.gpu_value[fleet.space.model.name]
                lost = round(float(worth[fleet.states[card]] - worth[fleet.states[card] | bits]), _ROUND)
                best = min(best, (lost, card, bits)) if best is not None else (lost, card, bits)
        return best and (best[1], best[2])

    def _cards(self, fleet: Fleet, profile: int) -> list[int]:
        steps = fleet.space.steps[profile]
        return [card for card, state in enumerate(fleet.states) if steps[state]]

    def _first_bits(self, fleet: Fleet, tables: PriceTables, profile: int, mask: int) -> int:
        """The units that first-fit takes on a GPU in the published order; 0 where nothing fits."""
        model, name = fleet.space.model, fleet.space.profiles[profile]
        order = self._order(model, mask, tables)
        return next((p.bits for p in order if p.profile == name and not p.bits & mask), 0)

    def _order(self, model: GpuModel, mask: int, tables: PriceTables) -> tuple[Placement, ...]:
        if self._orders is None or self._orders[0] != tables.version:
            self._orders = tables.version, order_table(tables.mig[model.name].tolist())
        return device_order(model, mask, self._orders[1])

    def _now(self) -> float:
        return self._fleet.now if self._fleet is not None else 0.0

    def _read(self) -> Conditions:
        if self._conditions is None:
            raise StudyRefused("the price loop ran before the first job came")
        return self._conditions

    def _look(self, fleet: Fleet) -> Conditions:
        space, model = fleet.space, fleet.space.model
        full = space.n_states - 1
        empty = Counter(fleet.node[card] for card, mask in enumerate(fleet.states) if not mask)
        running = Counter(job[0] for card in fleet.running for job in card.values())
        names = [f"mig:{name}" for name in space.profiles]
        new = {name: float(fleet.arrived[p] - self._counted[p]) for p, name in enumerate(names)}
        self._arrivals = fold(self._arrivals, new, sum(new.values()))
        self._counted = list(fleet.arrived)
        return Conditions(
            summary=FleetSummary(
                {model.name: model},
                Counter((model.name, mask) for mask in fleet.states if 0 < mask < full),
                Counter((model.name, free) for free in empty.values()),
            ),
            observed={name: float(running[p] + fleet.waiting[p]) for p, name in enumerate(names)},
            prior=MappingProxyType(dict.fromkeys(names, 1.0)),
            half_life_seconds=self._policy.demand.half_life_seconds,
            gpu_hour=self._policy.prices.gpu_hour,
            gpu_hour_by_model=MappingProxyType({}),
            arrivals=self._arrivals,
            waiting=frozenset(
                name for p, name in enumerate(names) if fleet.oldest[p] <= fleet.now - _WAITS_AFTER_SECONDS
            ),
        )


def _shaped_by(conditions: Conditions) -> object:
    """What the value table of the one model follows from (``scheduler.packing.mig_tables``)."""
    came = expected_arrivals(conditions.arrivals, conditions.prior, conditions.forecast)
    total = sum(came.values())
    return (
        conditions.waiting,
        rounded_shares(came, came),
        [(count >= total / 100.0, total < 4.0) for count in came.values()],
    )


class GpuSlices(Installed):
    """As above, on the first card of each node that has room."""

    def _cards(self, fleet: Fleet, profile: int) -> list[int]:
        first: dict[int, int] = {}
        for card in super()._cards(fleet, profile):
            first.setdefault(fleet.node[card], card)
        return list(first.values())


class FixedOrder(GpuSlices):
    """As above with a published order that never changes: by start, ``sign`` 1 lowest first, -1 highest."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self._sign = sign

    def _order(self, model: GpuModel, mask: int, tables: PriceTables) -> tuple[Placement, ...]:
        return tuple(sorted(placements(model), key=lambda p: self._sign * p.start))
