"""Hints as Karpenter takes them: NodeOverlays that correct the price it sees.

Karpenter buys the cheapest instance types that hold its pending pods, by its cloud's price list. A
NodeOverlay (karpenter.sh/v1alpha1, feature gate NodeOverlay) adds to that price: here what the list does not
know (``hints.Hint.beyond``), per instance type, zone and capacity type. The amounts are for what waits now
and grow stale with it; they are in the policy's currency, which must be that of the price list. Rendered for
a person or a pipeline to apply; nothing is written here. Pure.

Source: kubernetes-sigs/karpenter, pkg/apis/v1alpha1/nodeoverlay.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from autoscaler.nodes.hints import Hint
from autoscaler.nodes.node_kinds import ZONE_LABEL

API_VERSION: Final = "karpenter.sh/v1alpha1"
CAPACITY_LABEL: Final = "karpenter.sh/capacity-type"
WEIGHT: Final = 10
_LEAST: Final = 0.00005
_MOST_NAME: Final = 63


def overlays(hints: Iterable[Hint]) -> list[dict[str, Any]]:
    """One NodeOverlay a hint whose price differs from the list's; those without an instance type are left
    out.
    """
    found = []
    for hint in hints:
        machine = hint.machine
        if not machine.instance_type or abs(hint.beyond) < _LEAST:
            continue
        requirements = [_one_of("node.kubernetes.io/instance-type", machine.instance_type)]
        if machine.zone:
            requirements.append(_one_of(ZONE_LABEL, machine.zone))
        if machine.capacity[0] == CAPACITY_LABEL:
            requirements.append(_one_of(CAPACITY_LABEL, machine.capacity[1]))
        found.append(
            {
                "apiVersion": API_VERSION,
                "kind": "NodeOverlay",
                "metadata": {
                    "name": _name(str(machine)),
                    "labels": {"app.kubernetes.io/managed-by": "slicewise"},
                },
                "spec": {
                    "weight": WEIGHT,
                    "requirements": requirements,
                    "priceAdjustment": f"{hint.beyond:+.4f}",
                },
            }
        )
    return found


def _one_of(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": [value]}


def _name(text: str) -> str:
    clean = re.sub(r"[^a-z0-9]+", "-", f"slicewise-{text}".lower()).strip("-")
    return clean[:_MOST_NAME].rstrip("-")
