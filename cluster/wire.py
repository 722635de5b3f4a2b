"""Partial wire types of the Kubernetes API: only the fields that are read are declared.

Decides nothing; turns JSON of the API server into frozen msgspec Structs. Unknown fields are skipped by
the decoder (the reason why a list of 5,000 nodes costs tenths of a second and not seconds). Objects of
the API server form trees, never cycles, so the Structs opt out of the garbage collector (``gc=False``).
Sources: k8s.io/api core/v1, coordination/v1, events/v1, autoscaling/v1; k8s.io/apimachinery meta/v1.

Quantities stay as written (``cluster.quantity`` reads them), times stay RFC 3339 text.
Types of resource.k8s.io live in ``dra.resource_api``.
"""

from __future__ import annotations

from typing import Any, Protocol

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
    "Namespace",
    "Node",
    "NodeCondition",
    "NodeSpec",
    "NodeStatus",
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
    "Taint",
    "Toleration",
    "Wire",
]

Quantities = dict[str, str | int]


class HasMetadata(Protocol):
    """Any API object."""

    @property
    def metadata(self) -> ObjectMeta: ...


class Wire(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Base of the wire types: camelCase on the wire, immutable, unknown fields ignored."""


# --- core/v1 Node ---------------------------------------------------------------------------------------


class Taint(Wire, frozen=True):
    """core/v1 Taint."""

    key: str = ""
    value: str = ""
    effect: str = ""


class ContainerImage(Wire, frozen=True):
    """An image that the node holds; ``names`` are its tags and digests."""

    names: tuple[str, ...] = ()
    size_bytes: int = 0


class NodeCondition(Wire, frozen=True):
    """core/v1 NodeCondition; ``status`` is True, False or Unknown as text."""

    type: str = ""
    status: str = ""
    reason: str = ""
    last_transition_time: str | None = None


class NodeSpec(Wire, frozen=True):
    """What is asked of the node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    provider_id: str = msgspec.field(name="providerID", default="")


class NodeStatus(Wire, frozen=True):
    """What the node reports."""

    allocatable: Quantities = {}
    capacity: Quantities = {}
    images: tuple[ContainerImage, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()


class Node(Wire, frozen=True):
    """core/v1 Node."""

    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


# --- core/v1 Pod ----------------------------------------------------------------------------------------


class ContainerClaim(Wire, frozen=True):
    """A container's use of one of the pod's resource claims; empty ``request`` means all of them."""

    name: str = ""
    request: str = ""


class ContainerResources(Wire, frozen=True):
    """core/v1 ResourceRequirements."""

    requests: Quantities = {}
    limits: Quantities = {}
    claims: tuple[ContainerClaim, ...] = ()


class ContainerPort(Wire, frozen=True):
    """core/v1 ContainerPort."""

    name: str = ""
    container_port: int = 0


class Container(Wire, frozen=True):
    """core/v1 Container; ``restart_policy`` is "Always" for a sidecar among the init containers."""

    name: str = ""
    image: str = ""
    resources: ContainerResources = ContainerResources()
    restart_policy: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodResourceClaim(Wire, frozen=True):
    """A claim of the pod: by name, or made from a template for this pod."""

    name: str = ""
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class SchedulingGate(Wire, frozen=True):
    """core/v1 PodSchedulingGate."""

    name: str = ""


class Toleration(Wire, frozen=True):
    """core/v1 Toleration; an empty operator means Equal."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class PodSpec(Wire, frozen=True):
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


class PodCondition(Wire, frozen=True):
    """core/v1 PodCondition; ``status`` is True, False or Unknown as text."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class ResourceClaimStatus(Wire, frozen=True):
    """Which claim object stands for the pod's claim ``name``; None while it is not made (or not needed)."""

    name: str = ""
    resource_claim_name: str | None = None


class ExtendedResourceMapping(Wire, frozen=True):
    """Which request of the special claim serves a container's extended resource."""

    container_name: str = ""
    resource_name: str = ""
    request_name: str = ""


class ExtendedResourceClaimStatus(Wire, frozen=True):
    """The claim that the scheduler made for extended resources backed by device classes."""

    resource_claim_name: str = ""
    request_mappings: tuple[ExtendedResourceMapping, ...] = ()


class PodStatus(Wire, frozen=True):
    """core/v1 PodStatus."""

    phase: str = ""
    nominated_node_name: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    start_time: str | None = None
    conditions: tuple[PodCondition, ...] = ()
    resource_claim_statuses: tuple[ResourceClaimStatus, ...] = ()
    extended_resource_claim_status: ExtendedResourceClaimStatus | None = None


class Pod(Wire, frozen=True):
    """core/v1 Pod."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


# --- the small kinds ------------------------------------------------------------------------------------


class ConfigMap(Wire, frozen=True):
    """core/v1 ConfigMap without ``binaryData``."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, str] = {}


class Namespace(Wire, frozen=True):
    """core/v1 Namespace: its labels are what matters."""

    metadata: ObjectMeta = ObjectMeta()


class ObjectReference(Wire, frozen=True, omit_defaults=True):
    """core/v1 ObjectReference."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class EventSeries(Wire, frozen=True):
    """How often the event has been seen since it was first written."""

    count: int = 0
    last_observed_time: str = ""


class Event(Wire, frozen=True):
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


class LeaseSpec(Wire, frozen=True):
    """coordination.k8s.io/v1 LeaseSpec; times are RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Wire, frozen=True):
    """coordination.k8s.io/v1 Lease."""

    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()


class ScaleSpec(Wire, frozen=True):
    """autoscaling/v1 ScaleSpec."""

    replicas: int = 0


class ScaleStatus(Wire, frozen=True):
    """autoscaling/v1 ScaleStatus; ``selector`` is the label selector of the pods as text."""

    replicas: int = 0
    selector: str = ""


class Scale(Wire, frozen=True):
    """autoscaling/v1 Scale."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ScaleSpec = ScaleSpec()
    status: ScaleStatus = ScaleStatus()
