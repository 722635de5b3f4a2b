"""Price of what the newcomer and its neighbours lose to one another on shared hardware.

    price = Σ over what is shared of: gpu_hour × Σ_b amount_a × amount_b × (S[a, b] + S[b, a])

S[a, b] is the share of its speed that a pod of class a loses to one neighbour of class b: learned where
there is data (``metrics.interference``), else declared in the policy. Amounts are GPU equivalents, so each
side's loss is in the money its GPUs cost; both sides are charged to the newcomer, who causes both. Losses
add up over neighbours: right for small ones, too much for many. Because each pair is charged once, whichever
comes second, the sum over all pods does not depend on the order of arrival.

On a shared GPU a neighbour is a replica. The device plugin spreads replicas over the GPUs (its "distributed"
policy), so of u replicas on g GPUs floor(u / g) stand beside the next one, of each class in proportion. GPUs
under one PCIe root and on one node are known by ``scheduler.neighbours``.

A class that the policy does not know counts as its default class. Where a slowdown between the pod's class
and a class on the fleet is neither declared nor learned, the term is absent for the pod on all rows: no node
may look quiet for being unknown. Pure: table lookups over the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cluster.interference_policy import UNAFFECTED, Interference
from metrics.interference import Pair
from metrics.samples import NoData
from scheduler.neighbours import UNSTATED, Companies

if TYPE_CHECKING:
    from cluster.policy import ClusterPolicy
    from scheduler.scoring.context import Floats, Price, TermContext

SHARED_GPU: Final = "gpu"
PCIE_ROOT: Final = "pcieRoot"
NODE: Final = "node"

NOTHING_KNOWN = NoData(
    "the policy declares no slowdown between interference classes, and none has been learned", "misconfigured"
)


@dataclass(frozen=True, slots=True)
class Slowdowns:
    """S by what is shared and by (class, neighbour's class), and the class of pods that state none (or one
    that nobody knows).
    """

    known: Mapping[str, Mapping[tuple[str, str], float]]
    default_class: str

    def class_of(self, stated: str | None) -> str:
        """The class in force for a pod."""
        name = stated or UNSTATED
        if name == UNAFFECTED or any(name == own for pairs in self.known.values() for own, _ in pairs):
            return name
        return self.default_class

    def pair(self, where: str, own: str, other: str) -> float | None:
        """S[own, other] + S[other, own]; None where one of them is not known."""
        if UNAFFECTED in (own, other):
            return 0.0
        pairs = self.known[where]
        first, second = pairs.get((own, other)), pairs.get((other, own))
        return None if first is None or second is None else first + second


def slowdowns(policy: Interference, learned: Mapping[Pair, float]) -> Slowdowns | NoData:
    """The slowdowns in force: learned before declared."""
    known: dict[str, dict[tuple[str, str], float]] = {}
    for (where, own, other), value in {**declared(policy), **learned}.items():
        known.setdefault(where, {})[own, other] = value
    if not known:
        return NOTHING_KNOWN
    return Slowdowns(known, policy.default_class or UNSTATED)


def concerns(policy: ClusterPolicy, learned: Mapping[Pair, float]) -> bool:
    """Whether anybody asks who stands beside whom."""
    known = slowdowns(policy.interference, learned)
    return policy.terms.interference > 0.0 and not isinstance(known, NoData)


def declared(policy: Interference) -> dict[Pair, float]:
    """The slowdowns that the policy states."""
    return {
        (where, own, other): value
        for where, pairs in policy.slowdown.declared().items()
        for own, losses in pairs.items()
        for other, value in losses.items()
    }


class Rates:
    """Lookup tables: what one GPU's worth of a class and a company lose to one another, by company id."""

    def __init__(self, slowdowns: Slowdowns, companies: Companies) -> None:
        self._slowdowns = slowdowns
        self._companies = companies
        self._tables: dict[tuple[str, str], Floats] = {}
        self._renewed = companies.renewed
        self._gaps: dict[str, NoData | None] = {}

    def class_of(self, stated: str | None) -> str:
        """The class in force for a pod."""
        return self._slowdowns.class_of(stated)

    def places(self) -> tuple[str, ...]:
        """What is shared, where anything is known of it."""
        return tuple(self._slowdowns.known)

    def gap(self, own: str) -> NoData | None:
        """Why nothing can be said for a class beside the classes on the fleet, or None."""
        if own not in self._gaps:
            self._gaps[own] = self._find_gap(own)
        return self._gaps[own]

    def table(self, where: str, own: str) -> Floats:
        """float64[companies]: Σ_b amount_b × (S[own, b] + S[b, own])."""
        if self._renewed != self._companies.renewed:
            self._renewed = self._companies.renewed
            self._tables.clear()
        values = self._companies.interned.values
        table = self._tables.get((where, own))
        have = 0 if table is None else len(table)
        if table is None or have < len(values):
            fresh = [
                sum(milli * (self._between(where, own, name) or 0.0) for name, milli in company) / 1000.0
                for company in values[have:]
            ]
            table = np.append(table if table is not None else np.zeros(0), fresh)
            self._tables[where, own] = table
        return table

    def _between(self, where: str, own: str, stated: str) -> float | None:
        return self._slowdowns.pair(where, own, self._slowdowns.class_of(stated))

    def _find_gap(self, own: str) -> NoData | None:
        for where in self.places():
            for stated in sorted({own, *self._companies.classes}):
                if self._between(where, own, stated) is None:
                    names = " and ".join(
                        f"class {name}" if name else "pods that state no class" for name in (own, stated)
                    )
                    return NoData(f"no slowdown is known between {names} ({where})", "empty")
        return None


def price(context: TermContext) -> Price:
    """Money per hour on each row; NoData where nothing is known of the pod's class."""
    rates = context.world.interference
    if isinstance(rates, NoData):
        return rates
    own = rates.class_of(context.demand.interference)
    total: Floats = np.zeros(len(context.columns))
    if own == UNAFFECTED:
        return total
    gap = rates.gap(own)
    if gap is not None:
        return gap
    columns = context.columns
    for where in rates.places():
        table = rates.table(where, own)
        if where == SHARED_GPU:
            if context.shares.any():
                total += _on_shared_gpus(context, table)
        elif where == PCIE_ROOT:
            total += (context.taken * context.gpu_hour * table[columns.root_company]).sum(axis=1)
            total += context.counted * context.row_hour * table[columns.node_company]
        else:
            hours = (context.taken * context.gpu_hour).sum(axis=1) + context.counted * context.row_hour
            total += hours * table[columns.node_company]
    return total


def _on_shared_gpus(context: TermContext, table: Floats) -> Floats:
    columns = context.columns
    gpus = np.maximum(columns.shared_gpus, 1)
    used = columns.shared_used
    beside = np.where(used > 0, (used // gpus) / np.maximum(used, 1), 0.0)
    replica = gpus / np.maximum(columns.shared_total, 1)
    result: Floats = context.shares * replica * context.row_hour * beside * table[columns.shared_company]
    return result
