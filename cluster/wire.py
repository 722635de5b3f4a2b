"""Partial wire types of the Kubernetes API: only the fields that are read are declared.

Decides nothing; turns JSON of the API server into frozen msgspec Structs. Unknown fields are skipped by
the decoder (the reason why a list of 5,000 nodes costs tenths of a second and not seconds). Objects of
the API server form trees, never cycles, so the Structs opt out of the garbage collector (``gc=False``).
Sources: k8s.io/api core/v1, coordination/v1, events/v1, autoscaling/v1; k8s.io/apimachinery meta/v1.

Quantities stay as written (``cluster.quantity`` reads them), times stay RFC 3339 text.
Types of resource.k8s.io live in ``dra.resource_api``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from dra.resource_api import ObjectMeta

__all__ = [
    "ConfigMap",
    "Container",
    "ContainerImage",
    "ContainerPort",
    "ContainerResources",
    "Event",
    "ExtendedResourceClaimStatus",
    "HasMetadata",
    "Lease",
    "LeaseSpec",
    "ListMeta",
    "Namespace",
    "Node",
    "NodeCondition",
    "NodeSpec",
    "NodeStatus",
    "ObjectList",
    "ObjectMeta",
    "ObjectReference",
    "Pod",
    "PodCondition",
    "PodResourceClaim",
    "PodSpec",
    "PodStatus",
    "ResourceClaimStatus",
    "Scale",
    "ScaleSpec",
    "ScaleStatus",
    "SchedulingGate",
    "Status",
    "Taint",
    "Toleration",
    "WatchEvent",
    "list_decoder",
    "object_decoder",
    "raw_list_decoder",
    "watch_decoder",
]

Quantities = dict[str, str | int]


class HasMetadata(Protocol):
    """Any API object."""

    @property
    def metadata(self) -> ObjectMeta: ...


class _Wire(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Base of the wire types: camelCase on the wire, immutable, unknown fields ignored."""


# --- core/v1 Node ---------------------------------------------------------------------------------------


class Taint(_Wire, frozen=True):
    """core/v1 Taint."""

    key: str = ""
    value: str = ""
    effect: str = ""


class ContainerImage(_Wire, frozen=True):
    """An image that the node holds; ``names`` are its tags and digests."""

    names: tuple[str, ...] = ()
    size_bytes: int = 0


class NodeCondition(_Wire, frozen=True):
    """core/v1 NodeCondition; ``status`` is True, False or Unknown as text."""

    type: str = ""
    status: str = ""
    reason: str = ""
    last_transition_time: str | None = None


class NodeSpec(_Wire, frozen=True):
    """What is asked of the node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    provider_id: str = msgspec.field(name="providerID", default="")


class NodeStatus(_Wire, frozen=True):
    """What the node reports."""

    allocatable: Quantities = {}
    capacity: Quantities = {}
    images: tuple[ContainerImage, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()


class Node(_Wire, frozen=True):
    """core/v1 Node."""

    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


# --- core/v1 Pod ----------------------------------------------------------------------------------------


class ContainerClaim(_Wire, frozen=True):
    """A container's use of one of the pod's resource claims; empty ``request`` means all of them."""

    name: str = ""
    request: str = ""


class ContainerResources(_Wire, frozen=True):
    """core/v1 ResourceRequirements."""

    requests: Quantities = {}
    limits: Quantities = {}
    claims: tuple[ContainerClaim, ...] = ()


class ContainerPort(_Wire, frozen=True):
    """core/v1 ContainerPort."""

    name: str = ""
    container_port: int = 0


class Container(_Wire, frozen=True):
    """core/v1 Container; ``restart_policy`` is "Always" for a sidecar among the init containers."""

    name: str = ""
    image: str = ""
    resources: ContainerResources = ContainerResources()
    restart_policy: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodResourceClaim(_Wire, frozen=True):
    """A claim of the pod: by name, or made from a template for this pod."""

    name: str = ""
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class SchedulingGate(_Wire, frozen=True):
    """core/v1 PodSchedulingGate."""

    name: str = ""


class Toleration(_Wire, frozen=True):
    """core/v1 Toleration; an empty operator means Equal."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class PodSpec(_Wire, frozen=True):
    """core/v1 PodSpec; ``affinity`` is left as decoded JSON, ``resources`` are those of the whole pod."""

    node_name: str = ""
    scheduler_name: str = ""
    priority: int = 0
    priority_class_name: str = ""
    preemption_policy: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    resource_claims: tuple[PodResourceClaim, ...] = ()
    scheduling_gates: tuple[SchedulingGate, ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    affinity: dict[str, Any] | None = None
    scheduling_group: dict[str, str] | None = None
    overhead: Quantities = {}
    resources: ContainerResources | None = None
    topology_spread: tuple[dict[str, Any], ...] = msgspec.field(default=(), name="topologySpreadConstraints")


class PodCondition(_Wire, frozen=True):
    """core/v1 PodCondition; ``status`` is True, False or Unknown as text."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class ResourceClaimStatus(_Wire, frozen=True):
    """Which claim object stands for the pod's claim ``name``; None while it is not made (or not needed)."""

    name: str = ""
    resource_claim_name: str | None = None


class ExtendedResourceMapping(_Wire, frozen=True):
    """Which request of the special claim serves a container's extended resource."""

    container_name: str = ""
    resource_name: str = ""
    request_name: str = ""


class ExtendedResourceClaimStatus(_Wire, frozen=True):
    """The claim that the scheduler made for extended resources backed by device classes."""

    resource_claim_name: str = ""
    request_mappings: tuple[ExtendedResourceMapping, ...] = ()


class PodStatus(_Wire, frozen=True):
    """core/v1 PodStatus."""

    phase: str = ""
    nominated_node_name: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    start_time: str | None = None
    conditions: tuple[PodCondition, ...] = ()
    resource_claim_statuses: tuple[ResourceClaimStatus, ...] = ()
    extended_resource_claim_status: ExtendedResourceClaimStatus | None = None


class Pod(_Wire, frozen=True):
    """core/v1 Pod."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


# --- the small kinds ------------------------------------------------------------------------------------


class ConfigMap(_Wire, frozen=True):
    """core/v1 ConfigMap without ``binaryData``."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, str] = {}


class Namespace(_Wire, frozen=True):
    """core/v1 Namespace: its labels are what matters."""

    metadata: ObjectMeta = ObjectMeta()


class ObjectReference(_Wire, frozen=True, omit_defaults=True):
    """core/v1 ObjectReference."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class EventSeries(_Wire, frozen=True):
    """How often the event has been seen since it was first written."""

    count: int = 0
    last_observed_time: str = ""


class Event(_Wire, frozen=True):
    """events.k8s.io/v1 Event."""

    metadata: ObjectMeta = ObjectMeta()
    type: str = ""
    reason: str = ""
    note: str = ""
    action: str = ""
    regarding: ObjectReference = ObjectReference()
    event_time: str | None = None
    series: EventSeries | None = None
    reporting_controller: str = ""
    reporting_instance: str = ""


class LeaseSpec(_Wire, frozen=True):
    """coordination.k8s.io/v1 LeaseSpec; times are RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(_Wire, frozen=True):
    """coordination.k8s.io/v1 Lease."""

    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()


class ScaleSpec(_Wire, frozen=True):
    """autoscaling/v1 ScaleSpec."""

    replicas: int = 0


class ScaleStatus(_Wire, frozen=True):
    """autoscaling/v1 ScaleStatus; ``selector`` is the label selector of the pods as text."""

    replicas: int = 0
    selector: str = ""


class Scale(_Wire, frozen=True):
    """autoscaling/v1 Scale."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ScaleSpec = ScaleSpec()
    status: ScaleStatus = ScaleStatus()


# --- envelopes ------------------------------------------------------------------------------------------


class Status(_Wire, frozen=True):
    """meta/v1 Status: the body of a refusal and of a watch ERROR."""

    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0


class ListMeta(_Wire, frozen=True):
    """meta/v1 ListMeta; ``continue_token`` is empty on the last page."""

    resource_version: str = ""
    continue_token: str = msgspec.field(name="continue", default="")
    remaining_item_count: int | None = None


T = TypeVar("T")


class ObjectList(msgspec.Struct, Generic[T], rename="camel", frozen=True):
    """A page of a list; ``items`` is None where the server wrote null."""

    metadata: ListMeta = ListMeta()
    items: list[T] | None = None


class WatchEvent(_Wire, frozen=True):
    """One line of a watch. The object is kept as bytes, since its type depends on ``type``."""

    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"{}")


@lru_cache(maxsize=128)
def _decoder(kind: Any) -> Any:
    return msgspec.json.Decoder(kind)


def object_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return the shared decoder of one object of ``kind``."""
    return _decoder(kind)  # type: ignore[arg-type, no-any-return]


def list_decoder(kind: type[T]) -> msgspec.json.Decoder[ObjectList[T]]:
    """Return the shared decoder of a list page of ``kind``."""
    return _decoder(ObjectList[kind])  # type: ignore[no-any-return, valid-type]


def raw_list_decoder() -> msgspec.json.Decoder[ObjectList[msgspec.Raw]]:
    """Return the decoder that leaves each item as bytes, to find the one item that does not decode."""
    return list_decoder(msgspec.Raw)


def watch_decoder() -> msgspec.json.Decoder[WatchEvent]:
    """Return the decoder of one watch line."""
    return object_decoder(WatchEvent)
