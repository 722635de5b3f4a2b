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

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from cluster.quantity import QuantityRefused, parse_quantity
from cluster.wire import Container, Pod
from dra.claims import claim_requests
from dra.resource_api import (
    ClaimRequest,
    DeviceClaim,
    DeviceClass,
    ExactDeviceRequest,
    ResourceClaim,
    ResourceClaimSpec,
    ResourceClaimTemplate,
)

Kind = Literal["whole", "mig", "shared"]

NVLINK_ANNOTATION = "slicewise.io/nvlink"
NVLINK_WEIGHT_ANNOTATION = "slicewise.io/nvlink-weight"
CARBON_CLASS_ANNOTATION = "slicewise.io/carbon-class"
GPU_MODEL_ANNOTATION = "slicewise.io/gpu-model"
WEIGHTS_ANNOTATION = "slicewise.io/weights"
WHOLE_GPU_RESOURCE = "nvidia.com/gpu"
SHARED_GPU_RESOURCE = "nvidia.com/gpu.shared"
MIG_RESOURCE_PREFIX = "nvidia.com/mig-"
IMPLICIT_CLASS_PREFIX = "deviceclass.resource.kubernetes.io/"
NVLINK_NEEDS = ("none", "preferred", "required")

ClaimKey = tuple[str, str]
_PROFILE_RESOURCE = re.compile(r"(\d+c\.)?(\d+g\.\d+gb)(?:\.(me|gfx|me\.all)|(-me))?")


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
    """``count`` whole GPUs, MIG instances of ``profile``, or shares of a GPU in shared mode."""

    kind: Kind
    profile: str | None
    count: int

    def __str__(self) -> str:
        if self.kind == "mig":
            return f"{self.count} × {self.profile}"
        noun = "whole GPU" if self.kind == "whole" else "shared GPU"
        return f"{self.count} {noun}{'' if self.count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Demand:
    """Everything about a pod that its price depends on; pods with equal demands cost the same everywhere.

    ``nvlink_need`` and ``nvlink_weight`` are None where the policy's default holds. ``models`` are
    catalogue names; None is any.
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
class ClaimRef:
    """One of the pod's resource claims: the claim object's name once it is known, else the template's."""

    claim: str | None
    template: str | None


@dataclass(frozen=True, slots=True)
class PodShape:
    """What a pod's own JSON says, before claims and classes are looked up; small enough to keep for every
    pod.
    """

    namespace: str
    extended: tuple[tuple[str, int], ...]
    claims: tuple[ClaimRef, ...]
    models: frozenset[str] | None
    nvlink_need: str | None
    nvlink_weight: float | None
    carbon_class: str | None
    image: str | None
    weights: str | None
    problems: tuple[str, ...]


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


def pod_shape(pod: Pod) -> PodShape | None:
    """Return what the pod's JSON says, or None for a pod that asks for no device at all (the common case,
    kept fast).
    """
    spec = pod.spec
    problems: list[str] = []
    extended = _effective_requests(spec.containers, spec.init_containers, problems)
    if not extended and not spec.resource_claims and not problems:
        return None
    named = {status.name: status.resource_claim_name for status in pod.status.resource_claim_statuses}
    refs = tuple(
        ClaimRef(claim.resource_claim_name or named.get(claim.name), claim.resource_claim_template_name)
        for claim in spec.resource_claims
        # A status without a name says that no claim was needed for this entry.
        if claim.resource_claim_name or claim.name not in named or named[claim.name]
    )
    notes = pod.metadata.annotations
    return PodShape(
        namespace=pod.metadata.namespace or "default",
        extended=tuple(sorted(extended.items())),
        claims=refs,
        models=_models(notes.get(GPU_MODEL_ANNOTATION), problems),
        nvlink_need=_need(notes.get(NVLINK_ANNOTATION), problems),
        nvlink_weight=_weight(notes.get(NVLINK_WEIGHT_ANNOTATION), problems),
        carbon_class=notes.get(CARBON_CLASS_ANNOTATION) or None,
        image=_gpu_image(spec.containers),
        weights=notes.get(WEIGHTS_ANNOTATION) or None,
        problems=tuple(problems),
    )


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
    )
    return Resolved(demand, tuple(parts))


@lru_cache(maxsize=1024)
def gpu_request(resource: str, count: int) -> GpuRequest | None:
    """Read a device-plugin resource name; None for one of NVIDIA's names that we do not know."""
    if resource == WHOLE_GPU_RESOURCE:
        return GpuRequest("whole", None, count)
    if resource == SHARED_GPU_RESOURCE:
        return GpuRequest("shared", None, count)
    profile = resource_profile(resource)
    return None if profile is None else GpuRequest("mig", profile, count)


def resource_profile(resource: str) -> str | None:
    """``nvidia.com/mig-1g.10gb.me`` → ``1g.10gb+me``: the device plugin writes a dot where NVML writes a
    plus.
    """
    if not resource.startswith(MIG_RESOURCE_PREFIX):
        return None
    match = _PROFILE_RESOURCE.fullmatch(resource[len(MIG_RESOURCE_PREFIX) :])
    if match is None or match[1]:
        return None
    return match[2] + (f"+{match[3]}" if match[3] else match[4] or "")


def _effective_requests(
    containers: tuple[Container, ...], init_containers: tuple[Container, ...], problems: list[str]
) -> dict[str, int]:
    running: dict[str, int] = {}
    for container in containers:
        _add(running, _device_resources(container, problems))
    if not init_containers:
        return running
    sidecars: dict[str, int] = {}
    highest: dict[str, int] = {}
    for container in init_containers:
        wanted = _device_resources(container, problems)
        if container.restart_policy == "Always":
            _add(sidecars, wanted)
            _raise_to(highest, sidecars)
        else:
            _raise_to(
                highest, {name: wanted.get(name, 0) + sidecars.get(name, 0) for name in wanted | sidecars}
            )
    _add(running, sidecars)
    _raise_to(running, highest)
    return running


def _device_resources(container: Container, problems: list[str]) -> dict[str, int]:
    resources = container.resources
    found: dict[str, int] = {}
    # Extended resources may be given as limits only; the API server then copies them into the requests.
    for amounts in (resources.limits, resources.requests):
        for name, amount in amounts.items():
            if "/" not in name or not _is_device(name):
                continue
            try:
                count = parse_quantity(amount)
            except QuantityRefused as refused:
                problems.append(f"container {container.name}: {name}: {refused}")
                continue
            if not isinstance(count, int) or count < 0:
                problems.append(
                    f"container {container.name}: {name}: got {amount}, expected a whole number of devices"
                )
            elif count:
                found[name] = count
    return found


def _is_device(resource: str) -> bool:
    # Any domain may be a class's extendedResourceName; Kubernetes' own names never are.
    domain = resource.partition("/")[0]
    return domain == "deviceclass.resource.kubernetes.io" or not domain.endswith("kubernetes.io")


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _raise_to(total: dict[str, int], floor: Mapping[str, int]) -> None:
    for name, count in floor.items():
        if count > total.get(name, 0):
            total[name] = count


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
    counts: dict[tuple[Kind, str | None], int] = {}
    for request in requests:
        kind = (request.kind, request.profile)
        counts[kind] = counts.get(kind, 0) + request.count
    return tuple(GpuRequest(kind, profile, count) for (kind, profile), count in counts.items())


def _gpu_image(containers: tuple[Container, ...]) -> str | None:
    for container in containers:
        resources = container.resources
        if resources.claims or any(
            "/" in name and _is_device(name) for name in resources.limits | resources.requests
        ):
            return container.image or None
    return (containers[0].image or None) if containers else None


def _models(text: str | None, problems: list[str]) -> frozenset[str] | None:
    if text is None:
        return None
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not names:
        problems.append(
            f"{GPU_MODEL_ANNOTATION}: got {text!r}, expected model names such as A100-80GB,H100-80GB"
        )
        return None
    return names


def _need(text: str | None, problems: list[str]) -> str | None:
    if text is None or text in NVLINK_NEEDS:
        return text
    problems.append(f"{NVLINK_ANNOTATION}: got {text!r}, expected one of {', '.join(NVLINK_NEEDS)}")
    return None


def _weight(text: str | None, problems: list[str]) -> float | None:
    if text is None:
        return None
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if 0.0 <= weight <= 1.0:
        return weight
    problems.append(f"{NVLINK_WEIGHT_ANNOTATION}: got {text!r}, expected a number from 0 to 1")
    return None
