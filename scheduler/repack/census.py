"""Who runs where: the pods and nodes of a cluster as an evictor has to know them.

Fed by the same watches as the fleet. GPU pods are kept with what decides whether they may be moved (owner,
priority, labels, age, annotation, constraints); of all other pods only what they take of a node's CPU,
memory and pod slots. The fleet knows devices; this knows pods. One lock, no clock, no I/O.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.wire import Node, Pod
from dra.resource_api import OwnerReference
from scheduler.kept_objects import FINISHED_PHASES, ROOM_ON_ANNOTATION, pod_uid
from scheduler.on_demand import ANNOTATION, Floor, floor_of
from scheduler.planner.admission import Constraints, constraints_of
from scheduler.planner.gangs import gang_of
from scheduler.pod_shape import pod_shape
from scheduler.repack.resources import NOTHING, Resources, node_resources, pod_resources

REPACK_ANNOTATION = "slicewise.io/repack"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
GROUP_LABELS = (
    "leaderworkerset.sigs.k8s.io/group-key",
    "scheduling.x-k8s.io/pod-group",
    "batch.kubernetes.io/job-completion-index",
)
"""Labels of pods that run only together with others, besides those that the planner knows as gangs."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A living GPU pod. ``owner``: its controller, None for a bare pod. ``started`` and ``created`` are
    RFC 3339; ``wish`` is the annotation ``slicewise.io/repack``, ``room_on`` the node where room is being
    made for it. ``gated``: something still keeps it from the scheduler. ``gang``: it belongs to one.
    ``floor``: how many of its workload's replicas belong on nodes that nobody takes away.
    """

    uid: str
    namespace: str
    name: str
    node: str
    nominated: str
    priority: int
    preempts: bool
    owner: OwnerReference | None
    mirror: bool
    wish: str
    room_on: str
    labels: Mapping[str, str]
    created: str
    started: str
    terminating: bool
    gated: bool
    gang: bool
    scheduler: str
    resources: Resources
    constraints: Constraints
    floor: Floor | None = None

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


def resident(pod: Pod) -> Resident:
    """The part of a pod that is kept."""
    meta = pod.metadata
    return Resident(
        uid=pod_uid(pod),
        namespace=meta.namespace or "default",
        name=meta.name,
        node=pod.spec.node_name,
        nominated=pod.status.nominated_node_name,
        priority=pod.spec.priority,
        preempts=pod.spec.preemption_policy != "Never",
        owner=next((owner for owner in meta.owner_references if owner.controller), None),
        mirror=MIRROR_ANNOTATION in meta.annotations,
        wish=meta.annotations.get(REPACK_ANNOTATION, ""),
        room_on=meta.annotations.get(ROOM_ON_ANNOTATION, ""),
        labels=meta.labels,
        created=meta.creation_timestamp or "",
        started=pod.status.start_time or "",
        terminating=meta.deletion_timestamp is not None,
        gated=bool(pod.spec.scheduling_gates),
        gang=gang_of(pod) is not None or any(label in meta.labels for label in GROUP_LABELS),
        scheduler=pod.spec.scheduler_name,
        resources=pod_resources(pod),
        constraints=constraints_of(pod),
        floor=floor_of(meta.annotations.get(ANNOTATION, "")),
    )


class Census:
    """Pods and nodes; ``nodes`` and ``pods`` are the two reflector handlers."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._nodes: dict[str, Node] = {}
        self._offered: dict[str, Resources] = {}
        self._residents: dict[str, Resident] = {}
        self._taken: dict[str, tuple[str, Resources]] = {}
        self._used: dict[str, Resources] = {}
        self._successors: dict[str, set[str]] = {}
        self.version = 0
        self.nodes = _NodeHandler(self)
        self.pods = _PodHandler(self)

    # --- reading ------------------------------------------------------------------------------------------

    def residents(self) -> list[Resident]:
        """All living GPU pods."""
        with self._lock:
            return list(self._residents.values())

    def get(self, uid: str) -> Resident | None:
        """One living GPU pod."""
        with self._lock:
            return self._residents.get(uid)

    def plain(self, uid: str) -> Resources | None:
        """What a pod without GPUs takes; None for GPU pods and those not known."""
        with self._lock:
            taken = self._taken.get(uid)
            return None if taken is None or uid in self._residents else taken[1]

    def of_owner(self, owner_uid: str) -> list[Resident]:
        """The living GPU pods of one controller."""
        with self._lock:
            return [
                found
                for uid in self._successors.get(owner_uid, ())
                if (found := self._residents.get(uid)) is not None
            ]

    def node(self, name: str) -> Node | None:
        """A node as the watch shows it."""
        with self._lock:
            return self._nodes.get(name)

    def all_nodes(self) -> dict[str, Node]:
        """All nodes by name."""
        with self._lock:
            return dict(self._nodes)

    def free(self) -> dict[str, Resources]:
        """CPU, memory and pod slots left by node."""
        with self._lock:
            return {name: offered - self._used.get(name, NOTHING) for name, offered in self._offered.items()}

    # --- taking in ----------------------------------------------------------------------------------------

    def put_node(self, node: Node) -> None:
        """Take in one node."""
        with self._lock:
            self._nodes[node.metadata.name] = node
            self._offered[node.metadata.name] = node_resources(node)
            self.version += 1

    def drop_node(self, name: str) -> None:
        """Forget one node."""
        with self._lock:
            self._nodes.pop(name, None)
            self._offered.pop(name, None)
            self.version += 1

    def replace_nodes(self, nodes: Iterable[Node]) -> None:
        """Take a complete list of nodes."""
        with self._lock:
            self._nodes.clear()
            self._offered.clear()
            for node in nodes:
                self.put_node(node)

    def put_pod(self, pod: Pod) -> None:
        """Take in one pod; a finished one is forgotten."""
        uid = pod_uid(pod)
        if pod.status.phase in FINISHED_PHASES:
            self.drop_pod(uid)
            return
        has_devices = pod_shape(pod) is not None
        with self._lock:
            # Most events of a bound pod tell of conditions; what a pod takes never changes.
            known = self._taken.get(uid)
            if known is not None and not has_devices and known[0] == pod.spec.node_name:
                return
            found = resident(pod) if has_devices else None
            self._settle(uid, pod.spec.node_name, pod_resources(pod) if found is None else found.resources)
            if found is not None:
                self._residents[uid] = found
                if found.owner is not None:
                    self._successors.setdefault(found.owner.uid, set()).add(uid)

    def drop_pod(self, uid: str) -> None:
        """Forget one pod."""
        with self._lock:
            self._settle(uid, "", NOTHING)
            self._taken.pop(uid, None)
            old = self._residents.pop(uid, None)
            if old is not None and old.owner is not None:
                members = self._successors.get(old.owner.uid)
                if members is not None:
                    members.discard(uid)
                    if not members:
                        del self._successors[old.owner.uid]

    def replace_pods(self, pods: Sequence[Pod]) -> None:
        """Take a complete list of pods."""
        present = {pod_uid(pod) for pod in pods}
        with self._lock:
            for uid in [uid for uid in self._taken if uid not in present]:
                self.drop_pod(uid)
            for pod in pods:
                self.put_pod(pod)

    def _settle(self, uid: str, node: str, taken: Resources) -> None:
        old = self._taken.get(uid)
        if old is not None and old[0]:
            self._used[old[0]] = self._used.get(old[0], NOTHING) - old[1]
        self._taken[uid] = (node, taken)
        if node:
            self._used[node] = self._used.get(node, NOTHING) + taken


class _NodeHandler:
    def __init__(self, census: Census) -> None:
        self._census = census

    def replaced(self, items: Sequence[Node]) -> None:
        """A fresh list of nodes."""
        self._census.replace_nodes(items)

    def changed(self, kind: str, item: Node) -> None:
        """One watch event."""
        if kind == "DELETED":
            self._census.drop_node(item.metadata.name)
        else:
            self._census.put_node(item)


class _PodHandler:
    def __init__(self, census: Census) -> None:
        self._census = census

    def replaced(self, items: Sequence[Pod]) -> None:
        """A fresh list of pods."""
        self._census.replace_pods(items)

    def changed(self, kind: str, item: Pod) -> None:
        """One watch event."""
        if kind == "DELETED":
            self._census.drop_pod(pod_uid(item))
        else:
            self._census.put_pod(item)
