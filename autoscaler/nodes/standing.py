"""What a node of each kind costs beyond its list price whatever waits: risk of interruption and carbon.

Of one node with all its GPUs in use, in money per hour, multiplied by ``terms`` of the policy:

    beyond = GPUs × interruptions per hour × cost of one  +  GPUs × peak watts × intensity × price of a tonne

For whoever takes an amount as the price of every node of a kind, those that run too, and acts when it changes
(Karpenter's consolidation). What is left of a node that what waits does not fill is worth something only for
the node that is about to be bought, so it is no part of this (``hints``). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.nodes.fresh_node import Filled, Prices, carbon_gap, carbon_per_hour, in_full_use
from autoscaler.nodes.hints import Machine
from autoscaler.nodes.node_kinds import NodeKind


@dataclass(frozen=True, slots=True)
class Standing:
    """Money per hour that a price list does not know of one node."""

    machine: Machine
    beyond: float


def standing(kinds: Mapping[Machine, NodeKind], prices: Prices) -> tuple[Standing, ...]:
    """Every kind with GPUs, in order of its name."""
    full = {machine: in_full_use(kind, prices) for machine, kind in kinds.items()}
    with_carbon = not carbon_gap((found for found in full.values() if found.gpus), prices)
    return tuple(
        Standing(machine, _beyond(full[machine], prices, with_carbon=with_carbon))
        for machine in sorted(full, key=str)
    )


def _beyond(found: Filled, prices: Prices, *, with_carbon: bool) -> float:
    terms = prices.policy.terms
    carbon = carbon_per_hour(found, prices) if with_carbon else None
    return terms.money * found.risk + terms.carbon * (carbon or 0.0)
