"""Which kinds of node would serve what waits, for autoscalers that choose the instance type themselves.

A kind is an instance type in a zone and a capacity type, as the nodes that run show it: what never ran is not
known here. Every kind is filled with the replicas that have no place and that its nodes admit, and billed as
the expander bills an option (``node_options``). Kinds are ranked by price per replica, those that help nobody
left out.

``beyond`` is what a price list does not know: carbon, risk of interruption, and what is left of the node,
which somebody will use (negative). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.nodes.daemons import DaemonsOf, no_daemons
from autoscaler.nodes.fresh_node import Prices, carbon_gap, fill
from autoscaler.nodes.node_kinds import (
    CAPACITY_LABELS,
    ZONE_LABEL,
    NodeKind,
    Running,
    as_new,
    instance_type,
    kind_of,
)
from autoscaler.nodes.node_options import NodeBill, Option, node_bill
from cluster.wire import Node
from scheduler.demand import Demand
from scheduler.planner.admission import Constraints, admits

MOST_NODES = 64


@dataclass(frozen=True, slots=True)
class Lacking:
    """``replicas`` without a place; they ask for ``demand`` and may use what ``constraints`` admit."""

    demand: Demand
    constraints: Constraints
    replicas: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What a cloud is asked for. Empty where the nodes do not say."""

    instance_type: str
    zone: str
    capacity: tuple[str, str]  # label and value

    def __str__(self) -> str:
        parts = [self.instance_type or "unknown type", self.zone, self.capacity[1]]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Hint:
    """One kind of node: its bill for all nodes that would be needed, and per node ``beyond`` a price list."""

    machine: Machine
    bill: NodeBill
    beyond: float


def machine_of(labels: Mapping[str, str]) -> Machine:
    """The kind of machine that a node's labels tell."""
    capacity = next(((label, labels[label]) for label in CAPACITY_LABELS if label in labels), ("", ""))
    return Machine(instance_type(labels), labels.get(ZONE_LABEL, ""), capacity)


def kinds_of(
    nodes: Iterable[Node], running: Sequence[Running], daemons: DaemonsOf = no_daemons
) -> dict[Machine, NodeKind]:
    """One node of each kind of machine with GPUs, as it would be if it were new: without the marks of one
    that starts, is cordoned, has troubles or is about to go.
    """
    found: dict[Machine, NodeKind] = {}
    known = {instance_type(one.labels) for one in running}
    for node in sorted(nodes, key=lambda one: one.metadata.name):
        machine = machine_of(node.metadata.labels)
        if machine.instance_type and machine.instance_type in known and machine not in found:
            found[machine] = kind_of(str(machine), as_new(node), running, daemons)
    return found


def hints(lacking: Sequence[Lacking], kinds: Mapping[Machine, NodeKind], prices: Prices) -> tuple[Hint, ...]:
    """Rank the kinds of node for what lacks a place, the cheapest per replica first."""
    filled = {}
    for machine, kind in kinds.items():
        demands: dict[Demand, int] = {}
        for one in lacking:
            if one.replicas > 0 and admits(kind.node, one.constraints):
                demands[one.demand] = demands.get(one.demand, 0) + one.replicas
        filled[machine] = (demands, fill(kind, demands, prices, MOST_NODES))
    with_carbon = not carbon_gap((found for _, found in filled.values() if found.replicas), prices)
    ranked = []
    for machine, (demands, found) in filled.items():
        option = Option(str(machine), found.nodes, kinds[machine], demands)
        bill = node_bill(option, found, prices, with_carbon=with_carbon)
        if bill.replicas:
            beyond = (bill.total - bill.terms["money"]) / bill.nodes
            ranked.append(Hint(machine, bill, beyond))
    ranked.sort(key=lambda hint: (round(hint.bill.per_replica, 9), -hint.bill.replicas, str(hint.machine)))
    return tuple(ranked)
