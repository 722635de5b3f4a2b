"""What a pod's own JSON says about the devices it wants, before claims and classes are looked up.

Device counts follow the effective-request rule of KEP-753: app containers and sidecars run together; an
init container runs with the sidecars started before it; the pod needs the larger of the two, resource by
resource. The pod's annotations say how much the links matter, which carbon class, models and weights it
wants; a malformed value leaves the default in force and is told in ``problems``. Pure; small enough to keep
for every pod.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.quantity import QuantityRefused, parse_quantity
from cluster.wire import Container, Pod
from scheduler.host_needs import host_need

NVLINK_ANNOTATION = "slicewise.io/nvlink"
NVLINK_WEIGHT_ANNOTATION = "slicewise.io/nvlink-weight"
CARBON_CLASS_ANNOTATION = "slicewise.io/carbon-class"
GPU_MODEL_ANNOTATION = "slicewise.io/gpu-model"
WEIGHTS_ANNOTATION = "slicewise.io/weights"
INTERFERENCE_ANNOTATION = "slicewise.io/interference"
NVLINK_NEEDS = ("none", "preferred", "required")


@dataclass(frozen=True, slots=True)
class ClaimRef:
    """One of the pod's resource claims: the claim object's name once it is known, else the template's."""

    claim: str | None
    template: str | None


@dataclass(frozen=True, slots=True)
class PodShape:
    """What a pod's own JSON says, before claims and classes are looked up; small enough to keep for every
    pod. ``cpu_milli`` and ``memory_mib``: its effective requests.
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
    interference: str | None = None
    cpu_milli: int = 0
    memory_mib: int = 0


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
    cpu_milli, memory_mib = host_need(pod)
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
        interference=notes.get(INTERFERENCE_ANNOTATION) or None,
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
    )


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
