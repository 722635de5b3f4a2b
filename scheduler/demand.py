"""What GPUs a pod asks for, in one hashable value.

Decides how the three ways of asking come to one ``Demand``: device-plugin resources (``nvidia.com/gpu``,
``nvidia.com/mig-*``, ``nvidia.com/gpu.shared``), resource claims and their templates (resource.k8s.io/v1),
and extended resources backed by device classes (KEP-5004: ``spec.extendedResourceName`` of a DeviceClass or
``deviceclass.resource.kubernetes.io/<class>``). Containers add up by the effective-request rule of KEP-753:
app containers and sidecars run together; an init container runs with the sidecars started before it; the
pod needs the larger of the two, resource by resource.

Pure. A claim that is not there yet is read from its template; what cannot be read makes ``understood``
False and is never guessed. A malformed annotation leaves the default in force and is told in ``problems``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from cluster.wire import Pod
from dra.claims import claim_requests
from dra.inventory import profile_of_resource
from dra.resource_api import (
    ClaimRequest,
    DeviceClaim,
    DeviceClass,
    ExactDeviceRequest,
    ResourceClaim,
    ResourceClaimSpec,
    ResourceClaimTemplate,
)
from dra.shared_gpus import ONE, Wish
from dra.shared_gpus import Part as SharePart
from scheduler.pod_shape import ClaimRef, PodShape, pod_shape

__all__ = [
    "ClaimKey",
    "ClaimLookup",
    "Demand",
    "GpuRequest",
    "Part",
    "PodShape",
    "Resolved",
    "gpu_request",
    "parse_demand",
    "pod_shape",
    "resolve",
]

Kind = Literal["whole", "mig", "shared"]

WHOLE_GPU_RESOURCE = "nvidia.com/gpu"
SHARED_GPU_RESOURCE = "nvidia.com/gpu.shared"
MIG_RESOURCE_PREFIX = "nvidia.com/mig-"
IMPLICIT_CLASS_PREFIX = "deviceclass.resource.kubernetes.io/"


ClaimKey = tuple[str, str]


class ClaimLookup(Protocol):
    """Where claims and templates are found by namespace and name."""

    def claim(self, namespace: str, name: str) -> ResourceClaim | None:
        """The claim, or None while it is not known."""
        ...

    def template(self, namespace: str, name: str) -> ResourceClaimTemplate | None:
        """The template, or None while it is not known."""
        ...


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """``count`` whole GPUs, MIG instances of ``profile``, or parts of GPUs in shared mode: one replica or
    share each, or where ``wish`` is set so much of one GPU.
    """

    kind: Kind
    profile: str | None
    count: int
    wish: Wish | None = None

    def part(self, step_mib: int = 0) -> SharePart:
        """What each of a request for shared GPUs takes where a share has so much memory."""
        return ONE if self.wish is None else self.wish.part(step_mib)

    def __str__(self) -> str:
        if self.kind == "mig":
            return f"{self.count} × {self.profile}"
        noun = "whole GPU" if self.kind == "whole" else "shared GPU"
        size = "" if self.wish is None else f" ({self.wish})"
        return f"{self.count} {noun}{'' if self.count == 1 else 's'}{size}"


@dataclass(frozen=True, slots=True)
class Demand:
    """Everything about a pod that its price depends on; pods with equal demands cost the same everywhere.

    ``nvlink_need``, ``nvlink_weight`` and ``interference`` (a class) are None where the policy's default
    holds. ``models`` are catalogue names; None is any. ``cpu_milli`` and ``memory_mib``: effective requests,
    0 where nothing is asked for. ``on_demand``: not on a node that may be taken away (``on_demand``).
    """

    requests: tuple[GpuRequest, ...]
    models: frozenset[str] | None = None
    nvlink_need: str | None = None
    nvlink_weight: float | None = None
    carbon_class: str | None = None
    image: str | None = None
    weights: str | None = None
    understood: bool = True
    problems: tuple[str, ...] = field(default=(), compare=False)
    interference: str | None = None
    cpu_milli: int = 0
    memory_mib: int = 0
    on_demand: bool = False

    @property
    def key(self) -> Demand:
        """What caches are keyed by: the demand itself."""
        return self

    @property
    def whole_gpus(self) -> int:
        """Whole GPUs asked for in all."""
        return sum(request.count for request in self.requests if request.kind == "whole")

    def __str__(self) -> str:
        return " and ".join(str(request) for request in self.requests) or "GPUs we do not understand"


@dataclass(frozen=True, slots=True)
class Part:
    """The requests that one claim stands for; ``claim`` is None for the container resources."""

    claim: ClaimKey | None
    requests: tuple[GpuRequest, ...]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A pod's demand and how it is split over its claims."""

    demand: Demand
    parts: tuple[Part, ...]


def parse_demand(pod: Pod, claims: ClaimLookup, classes: Mapping[str, DeviceClass]) -> Demand | None:
    """Return what the pod asks for, or None when it asks for no GPU.

    ``classes`` are the device classes by name. Never raises: what cannot be read is told in the demand.
    """
    shape = pod_shape(pod)
    if shape is None:
        return None
    resolved = resolve(shape, claims, classes)
    return None if resolved is None else resolved.demand


def resolve(shape: PodShape, claims: ClaimLookup, classes: Mapping[str, DeviceClass]) -> Resolved | None:
    """Look up the shape's claims, templates and classes; None when no GPU is asked for."""
    models = shape.models
    understood = True
    parts: list[Part] = []
    device_requests = []
    extended, backed = _extended_requests(shape.extended, classes)
    for resource, count in extended:
        request = gpu_request(resource, count)
        if request is None:
            understood = False
        else:
            device_requests.append(request)
    for class_name, count in backed:
        read, ok, model = _read_spec(_class_spec(class_name, count), classes)
        understood &= ok
        models, agree = _narrow(models, model)
        understood &= agree
        device_requests.extend(read)
    if device_requests:
        parts.append(Part(None, _merged(device_requests)))
    for ref in shape.claims:
        spec, key = _claim_spec(ref, shape.namespace, claims)
        if spec is None:
            understood = False
            parts.append(Part(key, ()))
            continue
        read, ok, model = _read_spec(spec, classes)
        understood &= ok
        models, agree = _narrow(models, model)
        understood &= agree
        if read or not ok:
            parts.append(Part(key, _merged(read)))
    requests = _merged(request for part in parts for request in part.requests)
    if not requests and understood:
        return None
    demand = Demand(
        requests=requests,
        models=models,
        nvlink_need=shape.nvlink_need,
        nvlink_weight=shape.nvlink_weight,
        carbon_class=shape.carbon_class,
        image=shape.image,
        weights=shape.weights,
        understood=understood,
        problems=shape.problems,
        interference=shape.interference,
        cpu_milli=shape.cpu_milli,
        memory_mib=shape.memory_mib,
    )
    return Resolved(demand, tuple(parts))


@lru_cache(maxsize=1024)
def gpu_request(resource: str, count: int) -> GpuRequest | None:
    """Read a device-plugin resource name; None for one of NVIDIA's names that we do not know."""
    if resource == WHOLE_GPU_RESOURCE:
        return GpuRequest("whole", None, count)
    if resource == SHARED_GPU_RESOURCE:
        return GpuRequest("shared", None, count)
    profile = profile_of_resource(resource)
    return None if profile is None else GpuRequest("mig", profile, count)


def _extended_requests(
    extended: tuple[tuple[str, int], ...], classes: Mapping[str, DeviceClass]
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Split container resources into NVIDIA's own names and classes asked for by an extended resource."""
    own: list[tuple[str, int]] = []
    backed: list[tuple[str, int]] = []
    for resource, count in extended:
        if resource.startswith(IMPLICIT_CLASS_PREFIX):
            backed.append((resource[len(IMPLICIT_CLASS_PREFIX) :], count))
        elif resource in (WHOLE_GPU_RESOURCE, SHARED_GPU_RESOURCE) or resource.startswith(
            MIG_RESOURCE_PREFIX
        ):
            own.append((resource, count))
        else:
            # Any other name is a GPU only if a class says so; else it is a NIC, an FPGA …, and none of ours.
            names = sorted(
                name for name, cls in classes.items() if cls.spec.extended_resource_name == resource
            )
            backed.extend((name, count) for name in names[:1])
    return own, backed


def _class_spec(class_name: str, count: int) -> ResourceClaimSpec:
    request = ClaimRequest(name="r", exactly=ExactDeviceRequest(device_class_name=class_name, count=count))
    return ResourceClaimSpec(devices=DeviceClaim(requests=(request,)))


def _claim_spec(
    ref: ClaimRef, namespace: str, claims: ClaimLookup
) -> tuple[ResourceClaimSpec | None, ClaimKey | None]:
    if ref.claim:
        claim = claims.claim(namespace, ref.claim)
        if claim is not None:
            return claim.spec, (namespace, ref.claim)
    key = (namespace, ref.claim) if ref.claim else None
    template = claims.template(namespace, ref.template) if ref.template else None
    return (None if template is None else template.spec.spec), key


def _read_spec(
    spec: ResourceClaimSpec, classes: Mapping[str, DeviceClass]
) -> tuple[list[GpuRequest], bool, frozenset[str]]:
    requests: list[GpuRequest] = []
    models: set[str] = set()
    understood = True
    for wanted in claim_requests(spec, classes):
        if not wanted.understood:
            understood = False
        elif wanted.profile is not None:
            requests.append(GpuRequest("mig", wanted.profile, wanted.count))
        elif wanted.whole:
            requests.append(GpuRequest("whole", None, wanted.count))
        elif wanted.shared is not None:
            wish = None if wanted.shared in (Wish(), Wish(1)) else wanted.shared
            requests.append(GpuRequest("shared", None, wanted.count, wish))
        if wanted.model is not None:
            models.add(wanted.model)
    # Requests for different models in one claim cannot be told apart in a Demand.
    return requests, understood and len(models) <= 1, frozenset(models)


def _narrow(models: frozenset[str] | None, wanted: frozenset[str]) -> tuple[frozenset[str] | None, bool]:
    if not wanted:
        return models, True
    narrowed = wanted if models is None else models & wanted
    return narrowed, bool(narrowed)


def _merged(requests: Iterable[GpuRequest]) -> tuple[GpuRequest, ...]:
    """Add up equal requests, in order of first appearance: first-fit serves them in that order."""
    counts: dict[tuple[Kind, str | None, Wish | None], int] = {}
    for request in requests:
        kind = (request.kind, request.profile, request.wish)
        counts[kind] = counts.get(kind, 0) + request.count
    return tuple(GpuRequest(kind, profile, count, wish) for (kind, profile, wish), count in counts.items())
