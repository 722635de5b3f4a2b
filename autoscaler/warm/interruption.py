"""Nodes that are about to go, by the marks that clouds and node autoscalers put on them.

A replica on such a node still serves, but is no supply: within a minute or two it is gone. Marks are taints
(any effect), the deletion of the Node object, and an annotation of our own for whatever else knows:

    aws-node-termination-handler/*                  AWS: spot notice, rebalance, maintenance, lifecycle
    karpenter.sh/disrupted                          Karpenter 1.x: interruption, consolidation, drift, expiry
    karpenter.sh/disruption=disrupting              Karpenter before 1.0
    cloud.google.com/impending-node-termination     GKE: preemption and maintenance of GPU nodes
    remediator.kubernetes.azure.com/unschedulable   AKS: node auto-drain before a preemption or redeployment
    ToBeDeletedByClusterAutoscaler                  Cluster Autoscaler drains the node
    node.kubernetes.io/out-of-service               the node is down for good

Not among them: AKS' condition VMEventScheduled, which announces mere freezes too; a cordon, which says that
nobody new comes; a node that is not ready, which is left to Kubernetes' own eviction. Sources: each project's
documentation and constants. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cluster.wire import Node

# By key of the taint; the value that it must have, None for any.
TAINTS: Final[Mapping[str, str | None]] = MappingProxyType(
    {
        "aws-node-termination-handler/spot-itn": None,
        "aws-node-termination-handler/scheduled-maintenance": None,
        "aws-node-termination-handler/asg-lifecycle-termination": None,
        "aws-node-termination-handler/rebalance-recommendation": None,
        "karpenter.sh/disrupted": None,
        "karpenter.sh/disruption": "disrupting",
        "cloud.google.com/impending-node-termination": None,
        "remediator.kubernetes.azure.com/unschedulable": None,
        "ToBeDeletedByClusterAutoscaler": None,
        "node.kubernetes.io/out-of-service": None,
    }
)
OWN_ANNOTATION: Final = "slicewise.io/interruption"
"""For whatever else knows that a node goes: any value that is not empty."""


def interruption(node: Node) -> str:
    """What says that the node is about to go, "" where nothing does."""
    for taint in node.spec.taints:
        wanted = TAINTS.get(taint.key, "")
        if wanted is None or (wanted and taint.value == wanted):
            return f"taint {taint.key}"
    if node.metadata.deletion_timestamp is not None:
        return "the deletion of its Node"
    if node.metadata.annotations.get(OWN_ANNOTATION):
        return f"annotation {OWN_ANNOTATION}"
    return ""
