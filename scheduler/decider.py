"""The decision: which nodes can take a pod, and how the prices of the others rank.

A price is the sum of the terms of ``scheduler.scoring``, each multiplied as the policy says. For every
demand seen, the prices and refusals of all nodes are kept as vectors; a watch event makes only its rows
stale, a new policy, price table or intensity all of them. ``refresh`` brings the vectors up to date off the
request path, so a request mostly looks up and ranks.

Bursts need a predictable winner: pods decided within milliseconds of each other would all see the same
cheapest node. ``prioritize`` therefore reserves the predicted room on the node it ranks first. Among nodes
tied for the best price it picks one by a hash of the pod's UID (the same on every replica), which alone
scores 10; the other best ones rank behind it. For pods that nothing spreads ``filter`` already passes the
best node alone and holds it (``extender.oneNode``). Without reservations (``extender.reservationSeconds: 0``)
ties stay ties among ranks. A pod never competes with its own reservation or nomination.

Time comes from the ``clock`` passed in (Unix seconds: validity of intensities and reservations).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from cluster.policy import ClusterPolicy
from cluster.wire import Pod
from metrics.carbon.intensity import Intensity
from metrics.interference import NOTHING_LEARNED, Pair
from metrics.samples import NoData
from scheduler.bill import Bill
from scheduler.columns import Columns, Rows
from scheduler.demand import Demand, parse_demand
from scheduler.feasibility import Reason, interruptible
from scheduler.fleet import Fleet
from scheduler.kept_objects import pod_uid
from scheduler.on_demand import ANNOTATION, must_be_on_demand
from scheduler.packing.prices import PriceTables
from scheduler.pricing import TERMS, priced
from scheduler.ranking import DECIMALS, distinct, rank, rank_of
from scheduler.refusal_texts import RefusalTexts
from scheduler.scoring.context import World
from scheduler.shape_prices import ShapePrices, teller
from scheduler.shortlist import price_decides, shortlist, states_preferences
from scheduler.world import WorldKeeper

_SHORT = 64
_LISTS = 4
_OVERDUE_SECONDS = 1.0
_NEAR = 2.0 * 10.0**-DECIMALS


@dataclass(slots=True)
class FilterOutcome:
    """``passed``: positions in the names asked about, in order; with ``shortened`` only those worth ranking.
    ``failed`` and ``unresolvable``: node → reason. ``untouched``: every name passed. ``decided``: the one
    that passed is the best, and its room is held.
    """

    passed: list[int]
    failed: dict[str, str] = field(default_factory=dict)
    unresolvable: dict[str, str] = field(default_factory=dict)
    untouched: bool = False
    shortened: bool = False
    decided: bool = False


class Decider:
    """See the module docstring. Safe to call from several threads: the fleet's lock covers a decision."""

    def __init__(
        self,
        fleet: Fleet,
        policy: Callable[[], ClusterPolicy],
        tables: Callable[[], PriceTables],
        carbon: Callable[[], Mapping[str, Intensity]],
        clock: Callable[[], float],
        learned: Callable[[], Mapping[Pair, float]] = lambda: NOTHING_LEARNED,
    ) -> None:
        """``learned``: slowdowns by interference class, where they have been measured."""
        self.fleet = fleet
        self.unknown_nodes = 0
        self.not_understood = 0
        self._keeper = WorldKeeper(fleet, policy, tables, carbon, clock, learned)
        self._clock = clock
        self.shapes = ShapePrices(fleet, self._keeper)
        self._texts = RefusalTexts()
        self._last_rows: list[tuple[Sequence[str], int, Rows]] = []

    # --- the webhook --------------------------------------------------------------------------------------

    def demand(self, pod: Pod) -> Demand | None:
        """What the pod asks for; None when it asks for no GPU."""
        with self.fleet.lock:
            return self._asked(pod)

    def filter(self, pod: Pod, names: Sequence[str], *, choose: bool = True) -> FilterOutcome:
        """Say which of the nodes can take the pod, the cheapest of them only (``shortlist``). Unknown nodes,
        and pods that are not ours to judge, pass. ``choose``: the pod is to be placed now, so the best node
        may be all that passes (``extender.oneNode``); its room is then held.
        """
        with self.fleet.lock:
            demand = self._judged(pod)
            if demand is None:
                return FilterOutcome(list(range(len(names))), untouched=True)
            rows, world = self._rows_of(names), self._keeper.world()
            choose = choose and len(names) > 1 and price_decides(pod, world.policy.extender.one_node)
            if choose:
                self._come_again(pod_uid(pod))
            found, told = self.shapes.refusals(demand, rows, world)
            refused, passed = np.flatnonzero(found), np.flatnonzero(found == 0)
            short = self._best(pod, demand, rows[passed], world) if choose else None
            choose = short is not None
            if short is None:
                short = self._shortlist(pod, demand, rows[passed], world)
            refusals = self._texts.of(demand, names, found, told) if refused.size else None
        if not refused.size and short is None:
            return FilterOutcome(list(range(len(names))), untouched=True)
        passed = passed if short is None else passed[short]
        outcome = FilterOutcome(passed.tolist(), shortened=short is not None, decided=choose)
        if refusals is not None:
            outcome.failed, outcome.unresolvable = refusals.failed, refusals.unresolvable
        return outcome

    def prioritize(self, pod: Pod, names: Sequence[str]) -> NDArray[np.uint8] | None:
        """uint8[len(names)] scores 0..10; None for a pod that is not ours to judge. Reserves room on the
        winner.
        """
        with self.fleet.lock:
            demand = self._judged(pod)
            if demand is None:
                return None
            uid = pod_uid(pod)
            self._come_again(uid)
            world = self._keeper.world()
            shape = self.shapes.of(demand, world)
            rows = self._rows_of(names)
            own, own_prices = self._own_rows(uid, demand)
            if own.size:
                prices = shape.prices.copy()
                prices[own] = own_prices
                codes, count = distinct(prices[rows])
            elif len(names) <= _SHORT:
                codes, count = distinct(shape.prices[rows])
            else:
                if shape.codes is None:
                    shape.codes = distinct(shape.prices)
                codes, count = shape.codes[0][rows], shape.codes[1]
            codes, count = self._planned_first(pod, rows, codes, count)
            hold_seconds = world.policy.extender.reservation_seconds
            if not hold_seconds:
                return rank_of(codes, count)
            fitting = codes >= 0
            if not fitting.any():
                return np.zeros(len(names), dtype=np.uint8)
            best = np.flatnonzero(codes == codes[fitting].min())
            winner = int(best[zlib.crc32(uid.encode()) % len(best)])
            if len(best) > 1:
                # The winner gets a level of its own below all others.
                codes = codes + fitting
                codes[winner] = 0
                count += 1
            scores = rank_of(codes, count)
            self.fleet.reserve(uid, int(rows[winner]), demand, self._clock() + hold_seconds)
            return scores

    def _come_again(self, uid: str) -> None:
        """Give back what is long over (``refresh`` sees to the rest, after the answer), and what was held for
        a pod that comes again: it has lost that node.
        """
        self.fleet.expire(self._clock() - _OVERDUE_SECONDS)
        self.fleet.release(uid)

    def _best(self, pod: Pod, demand: Demand, rows: Rows, world: World) -> NDArray[np.int64] | None:
        """The position of the cheapest row, its room held; None without two rows to choose from or a finite
        price. Of equals the first, as on a shortlist: where prices say nothing, nodes fill up one by one.
        """
        if len(rows) < 2:
            return None
        uid = pod_uid(pod)
        prices = self._prices_seen_by(pod, uid, demand, world)[rows]
        least = prices.min()
        if not np.isfinite(least):
            return None
        # Equal as ``ranking`` has it: where the rounded prices are.
        near = np.flatnonzero(prices <= least + _NEAR)
        winner = int(near[np.argmax(np.round(prices[near], DECIMALS) == np.round(least, DECIMALS))])
        hold_seconds = world.policy.extender.reservation_seconds
        if hold_seconds:
            self.fleet.reserve(uid, int(rows[winner]), demand, self._clock() + hold_seconds)
        return np.array([winner])

    # --- explanations and plans ---------------------------------------------------------------------------

    def bills(self, pod: Pod, exclude_self: bool = True) -> list[Bill]:
        """The pod's bill on every GPU node, cheapest first, those it does not fit on last.

        ``exclude_self`` prices it as if it held nothing yet (bound, nominated or reserved). Empty for a pod
        without a GPU.
        """
        with self.fleet.lock:
            demand = self.demand(pod)
            if demand is None or not demand.understood:
                return []
            world = self._keeper.world()
            columns = self.fleet.view(np.arange(self.fleet.size))
            if exclude_self:
                self._put_rows(columns, *self.fleet.view_without(pod_uid(pod)))
            told: list[Reason] = [Reason("", False)]
            result = priced(demand, world, columns, teller(told, {}))
            absent = {name: missing.reason for name, missing in result.absent.items()}
            bills = []
            for row in np.flatnonzero(
                columns.valid & ((columns.gpu_count > 0) | (columns.row_model >= 0))
            ).tolist():
                feasible = bool(np.isfinite(result.total[row]))
                terms = (
                    {name: float(values[row]) for name, values in result.terms.items()} if feasible else {}
                )
                reason = told[result.reasons[row]].text
                if not feasible and not reason and result.short[row]:
                    reason = (
                        f"needs {demand.cpu_milli / 1000:g} CPU and {demand.memory_mib} MiB; "
                        f"{columns.cpu_free[row] / 1000:g} CPU and {columns.memory_free[row]} MiB are left"
                    )
                elif not feasible and not reason:
                    reason = f"needs {demand}; the room is expected to be taken by pods that are on their way"
                total = float(result.total[row])
                bills.append(Bill(self.fleet.names[row], terms, total, feasible, reason, absent))
            bills.sort(key=lambda bill: (bill.total, bill.node))
            return bills

    def place(self, demand: Demand, allowed: NDArray[np.bool_] | None = None) -> int | None:
        """The cheapest row for a demand, the lowest of equals; None where nothing fits. Reserves nothing.

        ``allowed``: bool[rows], which nodes may be used at all.
        """
        with self.fleet.lock:
            prices = self.shapes.of(demand).prices[:-1]
            if allowed is not None:
                prices = np.where(allowed[: len(prices)], prices, np.inf)
            if not len(prices):
                return None
            row = int(np.argmin(np.round(prices, 9)))
            return row if np.isfinite(prices[row]) else None

    def world(self) -> World:
        """What all prices follow from now; valid while the fleet's lock is held."""
        return self._keeper.world()

    def prices(self, demand: Demand) -> NDArray[np.float64]:
        """float64[rows]: money per hour on every row, infinite where the demand does not fit (a copy)."""
        with self.fleet.lock:
            return self.shapes.of(demand).prices[:-1].copy()

    def price_without(self, uid: str, demand: Demand, node: str) -> float | None:
        """Money per hour of a pod on a node where it holds room, priced as if it held none yet; None where it
        holds none.
        """
        with self.fleet.lock:
            rows, prices = self._own_rows(uid, demand)
            row = self.fleet.rows.get(node, -1)
            found = np.flatnonzero(rows == row)
            return float(prices[found[0]]) if found.size else None

    def refresh(self, shapes: Iterable[Demand] | None = None) -> None:
        """Bring cached vectors up to date, and build those of ``shapes``: call it after a change of prices,
        off the request path.
        """
        if shapes is not None:
            with self.fleet.lock:
                self.fleet.expire(self._clock())
                self.shapes.catch_up()
        for demand in self.shapes.demands() if shapes is None else shapes:
            if demand.understood:
                # The lock is given up between shapes so that requests get through.
                with self.fleet.lock:
                    shape = self.shapes.of(demand)
                    short = self._keeper.world().policy.extender.shortlist
                    if shape.codes is None and not 0 < short <= _SHORT:
                        shape.codes = distinct(shape.prices)

    # --- inside -------------------------------------------------------------------------------------------

    def _asked(self, pod: Pod) -> Demand | None:
        demand = parse_demand(pod, self.fleet.facts, self.fleet.facts.classes)
        if demand is None or ANNOTATION not in pod.metadata.annotations:
            return demand
        facts = self.fleet.facts
        must, problem = must_be_on_demand(pod, pod_uid(pod), facts.siblings, self._stand_stable)
        problems = (*demand.problems, problem) if problem else demand.problems
        return replace(demand, on_demand=must, problems=problems)

    def _stand_stable(self, uids: Iterable[str]) -> int:
        """How many of these pods stand, or are about to, on nodes that are not interruptible."""
        rows, node_of = self.fleet.rows, self.fleet.facts.node_of_pod
        found = [row for uid in uids if (row := rows.get(node_of(uid) or "")) is not None]
        if not found:
            return 0
        taken_away = interruptible(self._keeper.world().policy, self.fleet.view(np.array(found)))
        return len(found) - int(taken_away.sum())

    def _judged(self, pod: Pod) -> Demand | None:
        demand = self._asked(pod)
        if demand is not None and not demand.understood:
            self.not_understood += 1
            return None
        return demand

    def _rows_of(self, names: Sequence[str]) -> Rows:
        """The row of each name, -1 for unknown ones. Asked for the same list object again (prioritize after
        filter), while no node came or went, it answers what it knows; such a list must not be changed.
        """
        last, generation = self._last_rows, self.fleet.layout_generation
        found = next((entry for entry in last if entry[0] is names and entry[1] == generation), None)
        if found is not None and found is last[-1]:
            return found[2]
        if found is None:
            rows = np.fromiter(map(self.fleet.rows.get, names, repeat(-1)), dtype=np.int64, count=len(names))
            found = (names, generation, rows)
        else:
            rows = found[2]
        self.unknown_nodes += int((rows < 0).sum())
        self._last_rows = [*(entry for entry in last if entry is not found), found][-_LISTS:]
        return rows

    def _shortlist(self, pod: Pod, demand: Demand, rows: Rows, world: World) -> NDArray[np.int64] | None:
        most = world.policy.extender.shortlist
        if not most or len(rows) <= most or states_preferences(pod):
            return None
        prices = self._prices_seen_by(pod, pod_uid(pod), demand, world)
        return shortlist(prices[rows], self.fleet.columns.zone_id[rows], most)

    def _prices_seen_by(self, pod: Pod, uid: str, demand: Demand, world: World) -> NDArray[np.float64]:
        """The prices of all rows without what the pod itself holds, the node of its plan cheapest."""
        prices = self.shapes.of(demand, world).prices
        own, own_prices = self._own_rows(uid, demand)
        if own.size:
            prices = prices.copy()
            prices[own] = own_prices
        planned = self.fleet.rows.get(pod.status.nominated_node_name)
        if planned is not None and np.isfinite(prices[planned]):
            prices = prices.copy()
            prices[planned] = prices[np.isfinite(prices)].min() - 1.0
        return prices

    def _planned_first(
        self, pod: Pod, rows: Rows, codes: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.int64], int]:
        """The ranks with the node of the pod's plan (``status.nominatedNodeName``) alone at the top, if it is
        among the rows and still fits.
        """
        row = self.fleet.rows.get(pod.status.nominated_node_name)
        if row is None:
            return codes, count
        planned = (rows == row) & (codes >= 0)
        if not planned.any():
            return codes, count
        return np.where(planned, 0, codes + (codes >= 0)), count + 1

    def _own_rows(self, uid: str, demand: Demand) -> tuple[Rows, NDArray[np.float64]]:
        """The rows on which the pod itself holds room, and their prices without it."""
        if uid not in self.fleet.facts.pods or not self.fleet.facts.nodes_of_pod(uid):
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        rows, columns = self.fleet.view_without(uid)
        if not rows.size:
            return rows, np.zeros(0)
        result = priced(demand, self._keeper.world(), columns, teller([Reason("", False)], {}))
        return rows, result.total

    @staticmethod
    def _put_rows(columns: Columns, rows: Rows, parts: Columns) -> None:
        for name in Columns.__slots__:
            getattr(columns, name)[rows] = getattr(parts, name)


__all__ = ["TERMS", "Decider", "FilterOutcome", "NoData", "rank"]
