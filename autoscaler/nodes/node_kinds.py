"""What GPUs a node would have that does not exist yet.

A template node says how many GPUs it has, but often not which, and never what a DRA driver will publish. In
this order it is taken from:

1. a node that runs and has the same instance type (or else the same GPU product): its GPUs, and its driver;
2. GPU feature discovery's labels, which Cluster Autoscaler copies from a node of the group;
3. the accelerator labels of the clouds: GKE, EKS, Karpenter on AWS.

A GPU of an unknown model is priced as a whole GPU at the policy's price. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import msgspec

from autoscaler.nodes.daemons import Daemon, DaemonsOf, no_daemons
from autoscaler.warm.interruption import TAINTS
from cluster.wire import Node
from dra.inventory import NodeInventory

PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
COUNT_LABEL: Final = "nvidia.com/gpu.count"
INSTANCE_TYPE_LABELS: Final = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
CAPACITY_LABELS: Final = (
    "karpenter.sh/capacity-type",
    "eks.amazonaws.com/capacityType",
    "cloud.google.com/gke-spot",
    "kubernetes.azure.com/scalesetpriority",
)
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
REGION_LABEL: Final = "topology.kubernetes.io/region"
POOL_LABELS: Final = (
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
)

# Names that cloud.google.com/gke-accelerator and k8s.amazonaws.com/accelerator take.
_ACCELERATORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "nvidia-tesla-p100": "P100-16GB",
        "nvidia-tesla-v100": "V100-16GB",
        "nvidia-tesla-t4": "T4-16GB",
        "nvidia-tesla-a100": "A100-40GB",
        "nvidia-a100-80gb": "A100-80GB",
        "nvidia-l4": "L4-24GB",
        "nvidia-h100-80gb": "H100-80GB",
        "nvidia-h100-mega-80gb": "H100-80GB",
        "nvidia-h200-141gb": "H200-141GB",
        "nvidia-b200": "B200-180GB",
        "nvidia-gb200": "GB200-186GB",
    }
)
_ACCELERATOR_LABELS: Final = ("cloud.google.com/gke-accelerator", "k8s.amazonaws.com/accelerator")
_KARPENTER_GPU: Final = "karpenter.k8s.aws/instance-gpu-name"
_KARPENTER_MEMORY: Final = "karpenter.k8s.aws/instance-gpu-memory"
_KARPENTER_NAMES: Final[Mapping[str, tuple[tuple[int, str], ...]]] = MappingProxyType(
    {  # from so many MiB on
        "p100": ((0, "P100-16GB"),),
        "v100": ((0, "V100-16GB"), (20_000, "V100-32GB")),
        "t4": ((0, "T4-16GB"),),
        "a10g": ((0, "A10-24GB"),),
        "l4": ((0, "L4-24GB"),),
        "l40s": ((0, "L40S-48GB"),),
        "a100": ((0, "A100-40GB"), (60_000, "A100-80GB")),
        "h100": ((0, "H100-80GB"), (90_000, "H100-94GB")),
        "h200": ((0, "H200-141GB"),),
        "b200": ((0, "B200-180GB"),),
        "b300": ((0, "B300-269GB"),),
    }
)


# Taints that a node has for a while: of conditions and cordons (node.kubernetes.io/...), of its start and
# of its end.
_PASSING_PREFIX: Final = "node.kubernetes.io/"
_PASSING: Final = frozenset(
    {
        "karpenter.sh/unregistered",
        "node.cloudprovider.kubernetes.io/uninitialized",
        "DeletionCandidateOfClusterAutoscaler",
        *TAINTS,
    }
)


@dataclass(frozen=True, slots=True)
class NodeKind:
    """A node that may be added. ``inventory``: what its DRA driver will publish, None under the device
    plugin. ``daemons``: what will run on it before anything else does.
    """

    name: str
    node: Node
    inventory: NodeInventory | None = None
    daemons: tuple[Daemon, ...] = ()


@dataclass(frozen=True, slots=True)
class Running:
    """A GPU node that runs, as far as it tells what others of its kind will be."""

    labels: Mapping[str, str]
    inventory: NodeInventory


def instance_type(labels: Mapping[str, str]) -> str:
    """The cloud's name of the machine, "" where there is none."""
    return next((labels[label] for label in INSTANCE_TYPE_LABELS if labels.get(label)), "")


def as_new(node: Node) -> Node:
    """A node that runs, as another of its kind would be: neither cordoned nor tainted for the time being."""
    taints = tuple(
        taint
        for taint in node.spec.taints
        if taint.key not in _PASSING and not taint.key.startswith(_PASSING_PREFIX)
    )
    return msgspec.structs.replace(
        node, spec=msgspec.structs.replace(node.spec, taints=taints, unschedulable=False)
    )


def kind_of(
    name: str, template: Node, running: Iterable[Running], daemons: DaemonsOf = no_daemons
) -> NodeKind:
    """The kind of node that ``template`` stands for, completed from nodes of its kind that run. ``daemons``
    is asked about the template with the labels that were found.
    """
    labels = dict(template.metadata.labels)
    like = _like(labels, running)
    if like is not None:
        for label in (PRODUCT_LABEL, COUNT_LABEL, "nvidia.com/gpu.memory", REGION_LABEL):
            if label in like.labels:
                labels.setdefault(label, like.labels[label])
    elif PRODUCT_LABEL not in labels and (model := _clouds_model(labels)) is not None:
        labels[PRODUCT_LABEL] = model
    labelled = msgspec.structs.replace(template.metadata, labels=labels)
    before = daemons(msgspec.structs.replace(template, metadata=labelled))
    node = msgspec.structs.replace(template, metadata=msgspec.structs.replace(labelled, name=name))
    # What the device plugin would count is not there beside a driver.
    own_driver = like is not None and like.inventory.regime != "device-plugin"
    return NodeKind(name, node, like.inventory if like is not None and own_driver else None, before)


def _like(labels: Mapping[str, str], running: Iterable[Running]) -> Running | None:
    machine, product = instance_type(labels), labels.get(PRODUCT_LABEL)
    second: Running | None = None
    for one in running:
        if machine and instance_type(one.labels) == machine:
            return one
        if not machine and product and one.labels.get(PRODUCT_LABEL) == product:
            second = second or one
    return second


def _clouds_model(labels: Mapping[str, str]) -> str | None:
    for label in _ACCELERATOR_LABELS:
        if (found := _ACCELERATORS.get(labels.get(label, ""))) is not None:
            return found
    memory = labels.get(_KARPENTER_MEMORY, "")
    mib = int(memory) if memory.isascii() and memory.isdecimal() else 0
    models = _KARPENTER_NAMES.get(labels.get(_KARPENTER_GPU, ""), ())
    return next((model for least, model in reversed(models) if mib >= least), None)
