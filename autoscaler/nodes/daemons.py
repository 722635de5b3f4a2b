"""What DaemonSets take of a node that does not exist yet.

Neither Cluster Autoscaler nor Karpenter tells. ``grpcplugin.BestOptionsRequest`` carries ``NodeInfo.Node()``
of each group, the bare template node with all that its kubelet would offer; the DaemonSet pods that Cluster
Autoscaler itself keeps in the same NodeInfo are not sent, and pending DaemonSet pods are dropped before it
asks (cluster-autoscaler/expander/grpcplugin/grpc_client.go, populateNodeInfoForGRPC). So nothing that comes
has daemons taken off, and they are taken off here, each once, before a pending pod is placed.

A DaemonSet runs on a node by its controller's rules (pkg/controller/daemon, NodeShouldRunDaemonPod): node
selector, required node affinity, and no taint that its pods do not tolerate. Taints of node conditions (not
ready, under pressure) keep none away: the controller adds tolerations of most, and a new node loses the
others before anything runs on it. What a daemon takes is the effective request of one pod, with its GPUs
where it asks for some.

Not seen: labels that the node gets only once it runs and that the template lacks (a DaemonSet that selects
by them is missed), static pods, and what admission changes in a pod (LimitRanges, injected sidecars). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from cluster.wire import Node, Pod, Toleration
from scheduler.demand import Demand
from scheduler.host_needs import host_need
from scheduler.kept_objects import FINISHED_PHASES
from scheduler.planner.admission import admits, constraints_of

DemandOf: TypeAlias = Callable[[Pod], Demand | None]

_CONDITIONS: Final = tuple(
    Toleration(key=f"node.kubernetes.io/{what}", operator="Exists")
    for what in (
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
        "network-unavailable",
    )
)


@dataclass(frozen=True, slots=True)
class Daemon:
    """One pod of a DaemonSet: milli-CPU, MiB and, where it asks for GPUs that are understood, ``demand``."""

    cpu_milli: int
    memory_mib: int
    demand: Demand | None = None


DaemonsOf: TypeAlias = Callable[[Node], tuple[Daemon, ...]]
"""The daemons of a new node that looks like this one."""


def no_daemons(node: Node) -> tuple[Daemon, ...]:
    """For a caller that knows of none."""
    return ()


def daemons_for(node: Node, templates: Iterable[Pod], demand_of: DemandOf) -> tuple[Daemon, ...]:
    """The daemons of a node, by the pod templates of all DaemonSets."""
    return tuple(_daemon(pod, demand_of) for pod in templates if _runs_on(pod, node))


def daemons_seen(node: Node, pods: Iterable[Pod], demand_of: DemandOf) -> tuple[Daemon, ...]:
    """The daemons of a node as one that runs shows them: for whoever sees pods and no DaemonSets. The
    controller's own required affinity has replaced that of the template, so it cannot be asked again.
    """
    return tuple(
        _daemon(pod, demand_of)
        for pod in pods
        if pod.spec.node_name == node.metadata.name
        and pod.status.phase not in FINISHED_PHASES
        and any(owner.controller and owner.kind == "DaemonSet" for owner in pod.metadata.owner_references)
    )


def _runs_on(template: Pod, node: Node) -> bool:
    asked = constraints_of(template)
    return admits(node, replace(asked, tolerations=(*asked.tolerations, *_CONDITIONS)))


def _daemon(pod: Pod, demand_of: DemandOf) -> Daemon:
    cpu, memory = host_need(pod)
    demand = demand_of(pod)
    return Daemon(cpu, memory, demand if demand is not None and demand.understood else None)
