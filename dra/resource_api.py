"""The resource.k8s.io/v1 objects, as far as a scheduler needs them.

Field names and meaning follow ``k8s.io/api/resource/v1`` (Kubernetes 1.34 to 1.36). Every field has a
default and unknown fields are ignored, so that an object written by a newer API server, or half an object in
a test, still decodes. Nothing is validated here: the API server did that. Lists are tuples, so decoded
objects are immutable and may be shared between threads. Encoding is done elsewhere: ``dra.slices`` builds
plain dictionaries. The structs are not tracked by the
garbage collector: a large cluster has a million devices, and JSON has no cycles.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field


class OwnerReference(Struct, rename="camel", frozen=True, gc=False):
    """The object that owns this one; ``controller`` marks the managing owner."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class ObjectMeta(Struct, rename="camel", frozen=True, gc=False):
    """metav1.ObjectMeta without managed fields. Times are RFC 3339 strings, as on the wire."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class ListMeta(Struct, rename="camel", frozen=True, gc=False):
    """metav1.ListMeta."""

    resource_version: str = ""
    continue_: str = field(name="continue", default="")


class NodeSelectorRequirement(Struct, rename="camel", frozen=True, gc=False):
    """core/v1 NodeSelectorRequirement: ``operator`` is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class NodeSelectorTerm(Struct, rename="camel", frozen=True, gc=False):
    """Requirements that must all hold."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(Struct, rename="camel", frozen=True, gc=False):
    """Terms of which one must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class DeviceAttribute(Struct, rename="camel", frozen=True, gc=False):
    """One value of one type; list types are alpha in 1.36 and kept so that they can be refused by name."""

    int_: int | None = field(name="int", default=None)
    bool_: bool | None = field(name="bool", default=None)
    string: str | None = None
    version: str | None = None
    ints: tuple[int, ...] | None = None
    bools: tuple[bool, ...] | None = None
    strings: tuple[str, ...] | None = None
    versions: tuple[str, ...] | None = None

    @property
    def typed(self) -> tuple[str, int | bool | str] | None:
        """(type name, value) of a scalar attribute; None for a list or an empty one."""
        if self.string is not None:
            return "string", self.string
        if self.int_ is not None:
            return "int", self.int_
        if self.bool_ is not None:
            return "bool", self.bool_
        if self.version is not None:
            return "version", self.version
        return None


class CapacityRequestPolicyRange(Struct, rename="camel", frozen=True, gc=False):
    """Allowed shares of a capacity: from ``min`` to ``max`` in steps of ``step``."""

    min: str | int | None = None
    max: str | int | None = None
    step: str | int | None = None


class CapacityRequestPolicy(Struct, rename="camel", frozen=True, gc=False):
    """How much of a consumable capacity one claim may take (KEP-5075)."""

    default: str | int | None = None
    valid_values: tuple[str | int, ...] = ()
    valid_range: CapacityRequestPolicyRange | None = None


class DeviceCapacity(Struct, rename="camel", frozen=True, gc=False):
    """A quantity, and the policy for sharing it when the device allows several allocations."""

    value: str | int = "0"
    request_policy: CapacityRequestPolicy | None = None


class Counter(Struct, rename="camel", frozen=True, gc=False):
    """A quantity of a counter set or of a consumption."""

    value: str | int = "0"


class DeviceCounterConsumption(Struct, rename="camel", frozen=True, gc=False):
    """What a device takes out of one counter set of its pool."""

    counter_set: str = ""
    counters: dict[str, Counter] = {}


class DeviceTaint(Struct, rename="camel", frozen=True, gc=False):
    """A taint on a device; ``effect`` is None, NoSchedule or NoExecute."""

    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: str | None = None


class Device(Struct, rename="camel", frozen=True, gc=False):
    """One device of a slice; its identity is (driver, pool, name)."""

    name: str = ""
    attributes: dict[str, DeviceAttribute] = {}
    capacity: dict[str, DeviceCapacity] = {}
    consumes_counters: tuple[DeviceCounterConsumption, ...] = ()
    node_name: str | None = None
    node_selector: NodeSelector | None = None
    all_nodes: bool | None = None
    taints: tuple[DeviceTaint, ...] = ()
    binds_to_node: bool | None = None
    binding_conditions: tuple[str, ...] = ()
    binding_failure_conditions: tuple[str, ...] = ()
    allow_multiple_allocations: bool | None = None


class CounterSet(Struct, rename="camel", frozen=True, gc=False):
    """A named set of counters that devices of the same pool share."""

    name: str = ""
    counters: dict[str, Counter] = {}


class ResourcePool(Struct, rename="camel", frozen=True, gc=False):
    """Pool name, generation, and how many slices make the pool complete."""

    name: str = ""
    generation: int = 0
    resource_slice_count: int = 0


class ResourceSliceSpec(Struct, rename="camel", frozen=True, gc=False):
    """Devices of one driver in one pool, or (since 1.35 in a slice of their own) the pool's counters."""

    driver: str = ""
    pool: ResourcePool = ResourcePool()
    node_name: str | None = None
    node_selector: NodeSelector | None = None
    all_nodes: bool | None = None
    per_device_node_selection: bool | None = None
    devices: tuple[Device, ...] = ()
    shared_counters: tuple[CounterSet, ...] = ()


class ResourceSlice(Struct, rename="camel", frozen=True, gc=False):
    """resource.k8s.io/v1 ResourceSlice."""

    api_version: str = "resource.k8s.io/v1"
    kind: str = "ResourceSlice"
    metadata: ObjectMeta = ObjectMeta()
    spec: ResourceSliceSpec = ResourceSliceSpec()


class CELDeviceSelector(Struct, rename="camel", frozen=True, gc=False):
    """A CEL expression over ``device``."""

    expression: str = ""


class DeviceSelector(Struct, rename="camel", frozen=True, gc=False):
    """A selector; CEL is the only kind so far."""

    cel: CELDeviceSelector | None = None


class OpaqueDeviceConfiguration(Struct, rename="camel", frozen=True, gc=False):
    """Parameters that only the driver understands."""

    driver: str = ""
    parameters: Any = None


class DeviceClassConfiguration(Struct, rename="camel", frozen=True, gc=False):
    """Configuration that every claim of a class carries."""

    opaque: OpaqueDeviceConfiguration | None = None


class DeviceClassSpec(Struct, rename="camel", frozen=True, gc=False):
    """Selectors of a class, and the extended resource name it answers for (KEP-5004)."""

    selectors: tuple[DeviceSelector, ...] = ()
    config: tuple[DeviceClassConfiguration, ...] = ()
    extended_resource_name: str | None = None


class DeviceClass(Struct, rename="camel", frozen=True, gc=False):
    """resource.k8s.io/v1 DeviceClass."""

    api_version: str = "resource.k8s.io/v1"
    kind: str = "DeviceClass"
    metadata: ObjectMeta = ObjectMeta()
    spec: DeviceClassSpec = DeviceClassSpec()


class DeviceToleration(Struct, rename="camel", frozen=True, gc=False):
    """Tolerates a device taint; an empty key with Exists tolerates all."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class CapacityRequirements(Struct, rename="camel", frozen=True, gc=False):
    """Requested amounts of consumable capacities."""

    requests: dict[str, str | int] = {}


class ExactDeviceRequest(Struct, rename="camel", frozen=True, gc=False):
    """A request for devices of one class."""

    device_class_name: str = ""
    selectors: tuple[DeviceSelector, ...] = ()
    allocation_mode: str = "ExactCount"
    count: int | None = None
    admin_access: bool | None = None
    tolerations: tuple[DeviceToleration, ...] = ()
    capacity: CapacityRequirements | None = None


class DeviceSubRequest(Struct, rename="camel", frozen=True, gc=False):
    """One alternative of a ``firstAvailable`` list."""

    name: str = ""
    device_class_name: str = ""
    selectors: tuple[DeviceSelector, ...] = ()
    allocation_mode: str = "ExactCount"
    count: int | None = None
    tolerations: tuple[DeviceToleration, ...] = ()
    capacity: CapacityRequirements | None = None


class ClaimRequest(Struct, rename="camel", frozen=True, gc=False):
    """One request of a claim: exactly one of ``exactly`` and ``first_available`` is set."""

    name: str = ""
    exactly: ExactDeviceRequest | None = None
    first_available: tuple[DeviceSubRequest, ...] = ()


class DeviceConstraint(Struct, rename="camel", frozen=True, gc=False):
    """A rule over the devices of several requests (empty ``requests`` = all of the claim)."""

    requests: tuple[str, ...] = ()
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class DeviceClaimConfiguration(Struct, rename="camel", frozen=True, gc=False):
    """Configuration for some requests of a claim."""

    requests: tuple[str, ...] = ()
    opaque: OpaqueDeviceConfiguration | None = None


class DeviceClaim(Struct, rename="camel", frozen=True, gc=False):
    """What a claim asks for."""

    requests: tuple[ClaimRequest, ...] = ()
    constraints: tuple[DeviceConstraint, ...] = ()
    config: tuple[DeviceClaimConfiguration, ...] = ()


class ResourceClaimSpec(Struct, rename="camel", frozen=True, gc=False):
    """Spec of a claim."""

    devices: DeviceClaim = DeviceClaim()


class DeviceRequestAllocationResult(Struct, rename="camel", frozen=True, gc=False):
    """One allocated device; ``request`` is "name" or "name/subrequest"."""

    request: str = ""
    driver: str = ""
    pool: str = ""
    device: str = ""
    admin_access: bool | None = None
    share_id: str | None = field(name="shareID", default=None)
    consumed_capacity: dict[str, str | int] = {}


class DeviceAllocationConfiguration(Struct, rename="camel", frozen=True, gc=False):
    """Configuration as handed to the driver: from the class or from the claim."""

    source: str = ""
    requests: tuple[str, ...] = ()
    opaque: OpaqueDeviceConfiguration | None = None


class DeviceAllocationResult(Struct, rename="camel", frozen=True, gc=False):
    """Results in the order of requests."""

    results: tuple[DeviceRequestAllocationResult, ...] = ()
    config: tuple[DeviceAllocationConfiguration, ...] = ()


class AllocationResult(Struct, rename="camel", frozen=True, gc=False):
    """The allocation of a claim, and the nodes it may be used on."""

    devices: DeviceAllocationResult = DeviceAllocationResult()
    node_selector: NodeSelector | None = None
    allocation_timestamp: str | None = None


class ResourceClaimConsumerReference(Struct, rename="camel", frozen=True, gc=False):
    """Who may use an allocated claim."""

    api_group: str = ""
    resource: str = ""
    name: str = ""
    uid: str = ""


class ResourceClaimStatus(Struct, rename="camel", frozen=True, gc=False):
    """Status of a claim."""

    allocation: AllocationResult | None = None
    reserved_for: tuple[ResourceClaimConsumerReference, ...] = ()


class ResourceClaim(Struct, rename="camel", frozen=True, gc=False):
    """resource.k8s.io/v1 ResourceClaim."""

    api_version: str = "resource.k8s.io/v1"
    kind: str = "ResourceClaim"
    metadata: ObjectMeta = ObjectMeta()
    spec: ResourceClaimSpec = ResourceClaimSpec()
    status: ResourceClaimStatus = ResourceClaimStatus()


class ResourceClaimTemplateSpec(Struct, rename="camel", frozen=True, gc=False):
    """Metadata and spec for the claims made from a template."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ResourceClaimSpec = ResourceClaimSpec()


class ResourceClaimTemplate(Struct, rename="camel", frozen=True, gc=False):
    """resource.k8s.io/v1 ResourceClaimTemplate."""

    api_version: str = "resource.k8s.io/v1"
    kind: str = "ResourceClaimTemplate"
    metadata: ObjectMeta = ObjectMeta()
    spec: ResourceClaimTemplateSpec = ResourceClaimTemplateSpec()


def slices_from_json(objects: list[dict[str, Any]]) -> tuple[ResourceSlice, ...]:
    """Decode plain dictionaries, for instance those that ``dra.slices`` builds.

    Raises msgspec.ValidationError when a field has the wrong type.
    """
    return msgspec.convert(objects, tuple[ResourceSlice, ...])
