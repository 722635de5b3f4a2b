"""Small API objects for the scheduler's tests, built as the API server would send them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cluster.policy import ClusterPolicy
from cluster.wire import Node, Pod
from dra.catalog import models
from dra.inventory import Gpu, NodeInventory
from dra.mig import geometry
from dra.nvlink import nvswitch
from dra.resource_api import (
    DeviceClass,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
    slices_from_json,
)
from dra.slices import nvidia_slices, to_slices
from metrics.carbon.intensity import Intensity
from scheduler.conditions import read_conditions
from scheduler.decider import Decider
from scheduler.fleet import Fleet
from scheduler.packing.mix import DemandMix
from scheduler.packing.prices import PriceTables, solve_prices

H100 = "NVIDIA-H100-80GB-HBM3"
A100_PCIE = "NVIDIA-A100-80GB-PCIe"
L40S = "NVIDIA-L40S"
NODE_GRAMS = {"SE": 30.0, "DE": 400.0}


def policy(**sections: Any) -> ClusterPolicy:
    """A policy with some sections as in YAML; filter answers with every node worth ranking."""
    extender = {"oneNode": "never", **sections.pop("extender", {})}
    return ClusterPolicy.model_validate(
        {"apiVersion": "slicewise.io/v1alpha1", "kind": "ClusterPolicy", "extender": extender, **sections}
    )


def node(
    name: str,
    *,
    product: str = H100,
    allocatable: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    images: Sequence[str] = (),
    region: str = "eu-north-1",
) -> Node:
    """A node; with ``allocatable`` one of the device plugin."""
    known = {"topology.kubernetes.io/region": region, **(labels or {})}
    if allocatable is not None:
        known |= {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": "81559"}
    return msgspec.convert(
        {
            "metadata": {"name": name, "labels": known},
            "status": {"allocatable": dict(allocatable or {}), "images": [{"names": [i]} for i in images]},
        },
        Node,
    )


def pod(
    name: str,
    limits: Mapping[str, Any] | None = None,
    *,
    on: str = "",
    nominated: str = "",
    phase: str = "Pending",
    annotations: Mapping[str, str] | None = None,
    claims: Mapping[str, str] | None = None,
    templates: Mapping[str, str] | None = None,
    generated: Mapping[str, str] | None = None,
    extended_claim: str = "",
    image: str = "vllm/vllm-openai:v1",
) -> Pod:
    """A pod with one container; ``claims``: entry → claim, ``templates``: entry → template, ``generated``:
    entry → claim.
    """
    wanted = [{"name": k, "resourceClaimName": v} for k, v in (claims or {}).items()]
    wanted += [{"name": k, "resourceClaimTemplateName": v} for k, v in (templates or {}).items()]
    status: dict[str, Any] = {"phase": phase, "nominatedNodeName": nominated}
    status["resourceClaimStatuses"] = [
        {"name": k, "resourceClaimName": v} for k, v in (generated or {}).items()
    ]
    if extended_claim:
        status["extendedResourceClaimStatus"] = {"resourceClaimName": extended_claim}
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "annotations": dict(annotations or {}),
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "nodeName": on,
                "resourceClaims": wanted,
                "containers": [{"name": "main", "image": image, "resources": {"limits": dict(limits or {})}}],
            },
            "status": status,
        },
        Pod,
    )


def inventory(name: str, *, gpus: int = 2, ours: bool = False, model: str = "H100-80GB") -> NodeInventory:
    """A node with MIG on demand, its placements published in least-harm order."""
    found = models()[model]
    order = geometry(found).least_harm_order(0, {})
    return NodeInventory(
        name,
        "slicewise" if ours else "nvidia",
        "gpu.slicewise.io" if ours else "gpu.nvidia.com",
        name,
        tuple(Gpu(i, f"GPU-{name}-{i}", found, True, "NVIDIA H100 80GB HBM3") for i in range(gpus)),
        nvswitch(found, gpus),
        (order,) * gpus,
        {},
        {},
    )


def slices(name: str, *, gpus: int = 2, ours: bool = False) -> tuple[ResourceSlice, ...]:
    """The slices of such a node."""
    made = inventory(name, gpus=gpus, ours=ours)
    return slices_from_json(
        to_slices(made, (0,) * gpus, {}, version="1.35+") if ours else nvidia_slices(made)
    )


def claim(
    name: str,
    *,
    devices: Sequence[str] = (),
    on: str = "",
    driver: str = "gpu.nvidia.com",
    profile: str = "",
    owner: str = "",
    extended: bool = False,
) -> ResourceClaim:
    """A claim; allocated when ``devices`` are named; ``profile`` "" asks for a whole GPU."""
    results = [{"request": "r", "driver": driver, "pool": on, "device": device} for device in devices]
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "ownerReferences": [{"kind": "Pod", "name": owner, "uid": f"uid-{owner}"}] if owner else [],
                "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"} if extended else {},
            },
            "spec": claim_spec(profile),
            "status": {"allocation": {"devices": {"results": results}}} if devices else {},
        },
        ResourceClaim,
    )


def template(name: str, profile: str) -> ResourceClaimTemplate:
    """A claim template."""
    return msgspec.convert(
        {"metadata": {"name": name, "namespace": "default"}, "spec": {"spec": claim_spec(profile)}},
        ResourceClaimTemplate,
    )


def claim_spec(profile: str, count: int = 1) -> dict[str, Any]:
    """The spec of a claim on NVIDIA's driver."""
    exactly: dict[str, Any] = {"deviceClassName": "gpu.nvidia.com", "count": count}
    if profile:
        expression = f"device.attributes['gpu.nvidia.com'].profile == '{profile}'"
        exactly = {
            "deviceClassName": "mig.nvidia.com",
            "count": count,
            "selectors": [{"cel": {"expression": expression}}],
        }
    return {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}


def device_class(name: str, expression: str, extended: str | None = None) -> DeviceClass:
    """A device class with one CEL selector."""
    return msgspec.convert(
        {
            "metadata": {"name": name},
            "spec": {"selectors": [{"cel": {"expression": expression}}], "extendedResourceName": extended},
        },
        DeviceClass,
    )


def intensities(**grams: float) -> dict[str, Intensity]:
    """Intensities by zone, valid for ever."""
    return {
        zone: Intensity(zone, value, "average", 0.0, 1e18, "test", False) for zone, value in grams.items()
    }


def tables(fleet: Fleet, the_policy: ClusterPolicy | None = None, **counts: float) -> PriceTables:
    """Price tables for a mix of classes (``__`` stands for ``:`` and ``_`` for ``.``)."""
    mix = {name.replace("__", ":").replace("_", "."): value for name, value in counts.items()}
    mix = mix or {"mig:1g.10gb": 4.0, "mig:3g.40gb": 2.0, "whole:1": 2.0, "whole:2": 1.0}
    conditions = read_conditions(fleet, the_policy or policy())
    return solve_prices(conditions.summary, DemandMix(mix), lambda _: 2.5, None)


class Setting:
    """A decider whose policy, tables, intensities and clock can be turned by hand."""

    def __init__(self, fleet: Fleet, the_policy: ClusterPolicy | None = None) -> None:
        self.fleet = fleet
        self.policy = the_policy or policy()
        self.tables = tables(fleet, self.policy)
        self.carbon = intensities(**NODE_GRAMS)
        self.now = 1000.0
        self.learned: dict[tuple[str, str, str], float] = {}
        self.decider = Decider(
            fleet,
            lambda: self.policy,
            lambda: self.tables,
            lambda: dict(self.carbon),
            lambda: self.now,
            lambda: self.learned,
        )
