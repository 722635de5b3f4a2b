"""Which node group makes the pending demand placeable at the least price: the expander's decision.

    price per replica = (money + carbon − what is left is worth) / GPU pods made placeable

by the bill of ``fresh_node`` over all nodes of the option that are needed. The least price wins; at equal
prices the option that helps more pods, then the one that wastes the least CPU and memory. Only the winner,
and others exactly as good, are answered: Cluster Autoscaler takes any of what it gets, in no order.

Options that help no GPU pod are left to whatever expander comes next: where no option helps one, all are
answered, least waste first. Waste is Cluster Autoscaler's own: the mean of the shares of CPU and memory that
the pods of the option leave unused.

The carbon of a zone without a known intensity is unknown, not 0: with one such option carbon is left out of
all, and the reason is told. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from autoscaler.nodes.fresh_node import Filled, Prices, carbon_gap, carbon_per_hour, fill
from autoscaler.nodes.node_kinds import NodeKind
from scheduler.demand import Demand

_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Option:
    """One way to grow: ``nodes`` of a kind (None: no such node was told) for the pods asked for.

    ``demands``: GPU pods by what they ask for; ``others``: pods without a GPU; ``waste``: 0 to 1.
    """

    group: str
    nodes: int
    kind: NodeKind | None
    demands: Mapping[Demand, int]
    others: int = 0
    waste: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeBill:
    """What an option comes to, money per hour by term; ``per_replica`` is infinite where it helps nobody."""

    group: str
    nodes: int
    replicas: int
    terms: Mapping[str, float]
    per_replica: float
    waste: float
    why: str = ""

    @property
    def total(self) -> float:
        """Money per hour of all its nodes, less what is left."""
        return sum(self.terms.values())


@dataclass(frozen=True, slots=True)
class Choice:
    """``best``: positions of the options to answer; ``bills``: of all, in the order that was asked;
    ``sentence``: for people; ``about_gpus``: whether a GPU pod decided; ``carbon_gap``: why carbon was left
    out, "" where it was not; ``zones``: the grid zones that nodes would stand in.
    """

    best: tuple[int, ...]
    bills: tuple[NodeBill, ...]
    sentence: str
    about_gpus: bool
    carbon_gap: str = ""
    zones: frozenset[str] = frozenset()


def choose(options: Sequence[Option], prices: Prices) -> Choice:
    """Decide; ``options`` may be empty."""
    filled = [
        fill(option.kind, option.demands, prices, max(1, option.nodes))
        if option.kind is not None and option.demands
        else None
        for option in options
    ]
    gap = carbon_gap((found for found in filled if found is not None and found.replicas), prices)
    zones = frozenset(found.zone for found in filled if found is not None and found.zone)
    bills = tuple(
        node_bill(option, found, prices, with_carbon=not gap)
        for option, found in zip(options, filled, strict=True)
    )
    helping = [index for index, bill in enumerate(bills) if bill.replicas]
    if not helping:
        order = sorted(range(len(bills)), key=lambda index: (bills[index].waste, bills[index].group))
        return Choice(
            tuple(order),
            bills,
            "no option makes a GPU pod placeable; left in order of waste",
            False,
            gap,
            zones,
        )
    helping.sort(key=lambda index: _rank(bills[index]))
    first = _rank(bills[helping[0]])[:-1]
    best = tuple(index for index in helping if _rank(bills[index])[:-1] == first)
    return Choice(best, bills, _sentence([bills[index] for index in helping], prices), True, gap, zones)


def node_bill(option: Option, filled: Filled | None, prices: Prices, *, with_carbon: bool) -> NodeBill:
    """The bill of one option; ``filled`` is None where there is no GPU pod or no node to fill."""
    if filled is None or not filled.replicas:
        why = "has no GPU pod" if not option.demands else "no GPU pod fits on such a node"
        if option.demands and option.kind is None:
            why = "its node was not told"
        return NodeBill(option.group, option.nodes, 0, {}, inf, option.waste, why)
    multiply = prices.policy.terms
    terms = {"money": multiply.money * filled.money}
    if filled.risk:
        terms["risk"] = multiply.money * filled.risk
    carbon = carbon_per_hour(filled, prices) if with_carbon and multiply.carbon else None
    if carbon is not None:
        terms["carbon"] = multiply.carbon * carbon
    terms["left"] = 0.0 - multiply.fragmentation * prices.used_share * filled.left
    total = sum(terms.values())
    return NodeBill(option.group, filled.nodes, filled.replicas, terms, total / filled.replicas, option.waste)


def _rank(bill: NodeBill) -> tuple[float, int, float, str]:
    return (round(bill.per_replica, _DECIMALS), -bill.replicas, round(bill.waste, _DECIMALS), bill.group)


def _sentence(ranked: Sequence[NodeBill], prices: Prices) -> str:
    best, currency = ranked[0], prices.policy.currency
    terms = ", ".join(f"{name} {value:.2f}" for name, value in best.terms.items())
    text = (
        f"{best.group}: {best.replicas} GPU pods on {best.nodes} nodes at {best.per_replica:.2f} {currency} "
        f"an hour each ({terms})"
    )
    other = next((bill for bill in ranked[1:] if _rank(bill)[:-1] != _rank(best)[:-1]), None)
    if other is not None:
        text += f"; next {other.group} at {other.per_replica:.2f}"
    return text
