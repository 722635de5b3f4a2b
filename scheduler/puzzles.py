"""Why a pod's GPU demand is not understood, for people: what stands where, and what would be.

The other half of ``demand.resolve``, which only says that it is not: asked for one pod at a time by who
explains, never on the way of a pod. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cluster.wire import Pod
from dra.claims import claim_requests
from dra.resource_api import ClaimRequest, DeviceClass, ResourceClaimSpec
from scheduler.demand import ClaimLookup, gpu_request
from scheduler.pod_shape import ClaimRef, pod_shape


def puzzles(pod: Pod, claims: ClaimLookup, classes: Mapping[str, DeviceClass]) -> tuple[str, ...]:
    """One sentence for each thing that keeps the demand from being understood; none that can be named: ()."""
    shape = pod_shape(pod)
    if shape is None:
        return ()
    found = [
        f"{resource}: expected nvidia.com/gpu, nvidia.com/gpu.shared or nvidia.com/mig-PROFILE such as "
        "nvidia.com/mig-1g.10gb"
        for resource, count in shape.extended
        if resource.startswith("nvidia.com/") and gpu_request(resource, count) is None
    ]
    for ref in shape.claims:
        found += _of_claim(ref, shape.namespace, claims, classes)
    return tuple(found)


def _of_claim(
    ref: ClaimRef, namespace: str, claims: ClaimLookup, classes: Mapping[str, DeviceClass]
) -> Iterator[str]:
    claim = claims.claim(namespace, ref.claim) if ref.claim else None
    if claim is not None:
        yield from _of_spec(f"claim {namespace}/{ref.claim}", claim.spec, classes)
        return
    template = claims.template(namespace, ref.template) if ref.template else None
    if template is not None:
        yield from _of_spec(f"claim template {namespace}/{ref.template}", template.spec.spec, classes)
        return
    what = f"claim {namespace}/{ref.claim}" if ref.claim else f"claim template {namespace}/{ref.template}"
    yield f"{what}: is not there; create it, or correct spec.resourceClaims of the pod"


def _of_spec(where: str, spec: ResourceClaimSpec, classes: Mapping[str, DeviceClass]) -> Iterator[str]:
    models = set()
    for request, read in zip(spec.devices.requests, claim_requests(spec, classes), strict=True):
        if not read.understood:
            yield f"{where}, request {request.name}: {_why(request, classes)}"
        if read.model is not None:
            models.add(read.model)
    if len(models) > 1:
        yield f"{where}: requests for different GPU models ({', '.join(sorted(models))}) in one claim"


def _why(request: ClaimRequest, classes: Mapping[str, DeviceClass]) -> str:
    exact = request.exactly
    if exact is None:
        return "alternatives (firstAvailable), of which only the allocator will choose one"
    if exact.allocation_mode == "All":
        return "allocationMode All; expected a count"
    if exact.device_class_name not in classes:
        return f"DeviceClass {exact.device_class_name} is not there; apply it, or correct deviceClassName"
    return (
        f"the selectors of it or of DeviceClass {exact.device_class_name} say more than equality of driver, "
        "type, profile, model and productName"
    )
