"""The compact forms in which nodes and pods are kept, and what is read off claims. Pure; see
``scheduler.facts``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cluster.wire import Node, Pod
from dra.resource_api import ResourceClaim
from scheduler.demand import ClaimKey, Demand, GpuRequest, Resolved
from scheduler.host_needs import UNLIMITED, cpu_milli, memory_mib
from scheduler.pod_shape import PodShape

WEIGHTS_KEY = "slicewise.io/weights"
ROOM_ON_ANNOTATION = "slicewise.io/room-on"
"""On a waiting pod: the node where the repacker is making room for it. Counts as a nomination that
kube-scheduler, which drops its own with every failed attempt, cannot take away."""
WARM_LABEL = "slicewise.io/warm"
"""On pods that hold room for replicas (``autoscaler.warm``)."""
FINISHED_PHASES = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class NodeFact:
    """What a Node says that matters here; ``allocatable`` holds NVIDIA's resources only. ``cpu_milli`` and
    ``memory_mib`` are all that pods may take, UNLIMITED where the node does not say.
    """

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, str]
    images: tuple[str, ...]
    weights: tuple[str, ...]
    cpu_milli: int = UNLIMITED
    memory_mib: int = UNLIMITED


@dataclass(frozen=True, slots=True)
class PodFact:
    """A living pod that asks for devices. ``since`` orders pods that first-fit has to be replayed for;
    ``leaving``: it is being deleted and holds its devices until it is gone; ``noted``: the repacker is making
    room for it where it is nominated; ``stands_in``: it holds room for others and is no demand of its own.
    """

    uid: str
    namespace: str
    name: str
    node: str
    nominated: str
    since: str
    shape: PodShape
    resolved: Resolved | None
    claims: tuple[ClaimKey, ...]
    extended_claim: ClaimKey | None
    leaving: bool = False
    noted: bool = False
    stands_in: bool = False

    @property
    def demand(self) -> Demand | None:
        """What it asks for; None when no device of it is a GPU."""
        return None if self.resolved is None else self.resolved.demand


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room held on a node for a pod that is likely to land there, until ``until`` (the caller's clock,
    seconds).
    """

    uid: str
    node: str
    demand: Demand
    until: float


@dataclass(frozen=True, slots=True)
class Tenant:
    """Requests that take, or will take, room on a node. ``bound`` is False for nominations and
    reservations.
    """

    uid: str
    bound: bool
    demand: Demand
    requests: tuple[GpuRequest, ...]


def node_fact(node: Node) -> NodeFact:
    """The part of a Node that is kept."""
    meta = node.metadata
    weights = f"{meta.labels.get(WEIGHTS_KEY, '')},{meta.annotations.get(WEIGHTS_KEY, '')}"
    allocatable = node.status.allocatable
    return NodeFact(
        name=meta.name,
        labels=meta.labels,
        allocatable={name: str(n) for name, n in allocatable.items() if name.startswith("nvidia.com/")},
        images=tuple(image_name(name) for image in node.status.images for name in image.names),
        weights=tuple(sorted({part.strip() for part in weights.split(",") if part.strip()})),
        cpu_milli=cpu_milli(allocatable["cpu"]) if "cpu" in allocatable else UNLIMITED,
        memory_mib=memory_mib(allocatable["memory"]) if "memory" in allocatable else UNLIMITED,
    )


@lru_cache(maxsize=32768)
def image_name(name: str) -> str:
    """One spelling for an image: registry, path and tag or digest written out, as container runtimes report
    it.
    """
    first, _, rest = name.partition("/")
    if not rest:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    tail = name.rpartition("/")[2]
    # Interned: the same hundred names stand in the status of thousands of nodes.
    return sys.intern(name if ":" in tail or "@" in tail else f"{name}:latest")


def pod_uid(pod: Pod) -> str:
    """The pod's UID; a pod that never met an API server is known by its name."""
    return pod.metadata.uid or f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"


def claim_key(claim: ResourceClaim) -> ClaimKey:
    """Namespace and name of a claim."""
    return (claim.metadata.namespace or "default", claim.metadata.name)
