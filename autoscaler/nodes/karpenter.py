"""What a price list does not know, as Karpenter takes it: NodeOverlays that add to the price it sees.

Karpenter buys the cheapest instance types that hold its pending pods, by its cloud's price list. A
NodeOverlay (karpenter.sh/v1alpha1, feature gate NodeOverlay) adds to that price, per instance type, zone and
capacity type. Karpenter takes it for the price of the nodes that run as well: where a NodePool consolidates
what is underutilised, a node is replaced as soon as another is cheaper. So only what stands is told, risk and
carbon (``standing``), and not what is left of a node after what waits now; else replicas would be moved each
time that something else waits.

An offering takes one adjustment, that of the greatest weight, and of two that are equally great the whole
second overlay is refused (condition ValidationSucceeded False, reason Conflict). A kind whose nodes do not
tell zone or capacity type matches the offerings of those that do; therefore the more is told, the greater is
the weight, and nothing is told twice. The amounts are in the policy's currency, which must be that of the
price list. Rendered for a person or a pipeline to apply; nothing is written here. Pure.

Source: kubernetes-sigs/karpenter, pkg/apis/v1alpha1/nodeoverlay.go, pkg/controllers/nodeoverlay/{controller,
store}.go, read at v1.14.1 and v1.15.0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from autoscaler.nodes.hints import Machine
from autoscaler.nodes.node_kinds import ZONE_LABEL
from autoscaler.nodes.standing import Standing

API_VERSION: Final = "karpenter.sh/v1alpha1"
CAPACITY_LABEL: Final = "karpenter.sh/capacity-type"
TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
MANAGED_BY: Final = ("app.kubernetes.io/managed-by", "slicewise")
# By how much is told: the instance type alone; zone adds 1, capacity type 2.
LEAST_WEIGHT: Final = 10
_WITH_ZONE: Final = 1
_WITH_CAPACITY: Final = 2
_LEAST: Final = 0.00005
_MOST_NAME: Final = 63
_DIGEST: Final = 8

# What nodes of other makers say of their capacity, in Karpenter's words.
_CAPACITY: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("eks.amazonaws.com/capacityType", "SPOT"): "spot",
        ("eks.amazonaws.com/capacityType", "ON_DEMAND"): "on-demand",
        ("cloud.google.com/gke-spot", "true"): "spot",
        ("kubernetes.azure.com/scalesetpriority", "spot"): "spot",
        ("kubernetes.azure.com/scalesetpriority", "regular"): "on-demand",
    }
)


def overlays(found: Iterable[Standing]) -> list[dict[str, Any]]:
    """One NodeOverlay a kind whose price differs from the list's; kinds without an instance type are left
    out, and of two that Karpenter cannot tell apart the one that it made itself is told.
    """
    told: dict[tuple[tuple[str, str], ...], Standing] = {}
    for one in sorted(
        found, key=lambda each: (each.machine.capacity[0] != CAPACITY_LABEL, str(each.machine))
    ):
        if one.machine.instance_type:
            told.setdefault(_offering(one.machine), one)
    return [_overlay(labels, one.beyond) for labels, one in sorted(told.items()) if abs(one.beyond) >= _LEAST]


def _offering(machine: Machine) -> tuple[tuple[str, str], ...]:
    """The labels by which Karpenter knows what is meant."""
    label, value = machine.capacity
    capacity = value if label == CAPACITY_LABEL else _CAPACITY.get((label, value), "")
    known = ((TYPE_LABEL, machine.instance_type), (ZONE_LABEL, machine.zone), (CAPACITY_LABEL, capacity))
    return tuple((key, one) for key, one in known if one)


def _overlay(labels: tuple[tuple[str, str], ...], beyond: float) -> dict[str, Any]:
    keys = dict(labels)
    weight = LEAST_WEIGHT + _WITH_ZONE * (ZONE_LABEL in keys) + _WITH_CAPACITY * (CAPACITY_LABEL in keys)
    return {
        "apiVersion": API_VERSION,
        "kind": "NodeOverlay",
        "metadata": {"name": _name(keys.values()), "labels": dict((MANAGED_BY,))},
        "spec": {
            "weight": weight,
            "requirements": [{"key": key, "operator": "In", "values": [value]} for key, value in labels],
            "priceAdjustment": f"{beyond:+.4f}",
        },
    }


def _name(parts: Iterable[str]) -> str:
    text = " ".join(parts)
    clean = re.sub(r"[^a-z0-9]+", "-", f"slicewise-{text}".lower()).strip("-")
    if len(clean) <= _MOST_NAME:
        return clean
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    return f"{clean[: _MOST_NAME - _DIGEST - 1].rstrip('-')}-{digest}"
