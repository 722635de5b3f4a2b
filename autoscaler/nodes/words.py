"""Hints and advice as JSON-ready data, for the controller's routes and the command line. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autoscaler.nodes.hints import Hint
from autoscaler.nodes.scale_down import NodeAdvice


def hint_as_json(hint: Hint) -> dict[str, Any]:
    """One hint."""
    machine, bill = hint.machine, hint.bill
    return {
        "instanceType": machine.instance_type,
        "zone": machine.zone,
        "capacity": machine.capacity[1],
        "replicas": bill.replicas,
        "nodes": bill.nodes,
        "pricePerReplica": round(bill.per_replica, 6),
        "terms": {name: round(value, 6) for name, value in bill.terms.items()},
        "beyondPriceListPerNode": round(hint.beyond, 6),
    }


def advice_as_json(advice: Iterable[NodeAdvice]) -> list[dict[str, Any]]:
    """The advice about every node."""
    return [
        {
            "node": one.node,
            "verdict": one.verdict,
            "why": one.why,
            "savesPerHour": round(one.saves_per_hour, 6),
            "moves": [{"pod": pod, "to": to} for pod, to in one.moves],
        }
        for one in advice
    ]
