"""The demo's hardware: 57 GPU nodes over three grid zones, as Node manifests and inventories.

Three regions with very different electricity (Norway, Great Britain, the eastern United States) hold the same
19 nodes each:

| nodes a zone | hardware | MIG | links |
|---|---|---|---|
| 2 | 2 × A100-SXM4-80GB | yes | NVSwitch |
| 2 | 2 × H100-80GB-HBM3 | yes | NVSwitch |
| 2 | 8 × H100-80GB-HBM3 | no | NVSwitch |
| 4 | 4 × A100-80GB-PCIe | no | bridged pairs (NV12) |
| 5 | 2 × L40S | – | PCIe only |
| 4 | 1 × A30 | yes | – |

126 GPUs that are given whole and 36 that may be cut. Labels are those that GPU feature discovery and cloud
providers set. Pure: no client; the same call gives the same fleet. What is published as ResourceSlices is
``publishing``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dra.catalog import GpuModel, models
from dra.nvlink import TOPOLOGY_LABEL, Topology, bridges, nvswitch, pcie_only


@dataclass(frozen=True, slots=True)
class Zone:
    """A region with its grid zone (Electricity Maps id)."""

    region: str
    zone: str
    grid: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of node: ``count`` of them in each zone. ``mig`` says whether its GPUs may be cut."""

    prefix: str
    count: int
    instance_type: str
    model: str
    product: str
    gpus: int
    mig: bool
    links: str
    cpus: int
    memory_gib: int


@dataclass(frozen=True, slots=True)
class DemoNode:
    """One node of the demo."""

    name: str
    zone: Zone
    shape: Shape

    @property
    def model(self) -> GpuModel:
        return models()[self.shape.model]


ZONES = (
    Zone("europe-north", "europe-north-a", "NO"),
    Zone("europe-west", "europe-west-a", "GB"),
    Zone("us-east", "us-east-a", "US-MIDA-PJM"),
)

SHAPES = (
    Shape("a100", 2, "gpu-a100-2", "A100-80GB", "NVIDIA-A100-SXM4-80GB", 2, True, "nvswitch", 48, 680),
    Shape("h100", 2, "gpu-h100-2", "H100-80GB", "NVIDIA-H100-80GB-HBM3", 2, True, "nvswitch", 52, 460),
    Shape("hgx", 2, "gpu-h100-8", "H100-80GB", "NVIDIA-H100-80GB-HBM3", 8, False, "nvswitch", 208, 1840),
    Shape("pcie", 4, "gpu-a100-pcie-4", "A100-80GB", "NVIDIA-A100-80GB-PCIe", 4, False, "bridges", 96, 880),
    Shape("l40s", 5, "gpu-l40s-2", "L40S-48GB", "NVIDIA-L40S", 2, False, "pcie", 64, 512),
    Shape("a30", 4, "gpu-a30-1", "A30-24GB", "NVIDIA-A30", 1, True, "pcie", 24, 192),
)

POOL_MODELS: Mapping[str, tuple[str, ...]] = {
    "mig-80gb": ("A100-80GB", "H100-80GB"),
    "mig-24gb": ("A30-24GB",),
}


@lru_cache(maxsize=1)
def demo_fleet() -> tuple[DemoNode, ...]:
    """All nodes, ordered by name within shape within zone."""
    return tuple(
        DemoNode(f"{shape.prefix}-{zone.grid.split('-')[0].lower()}-{number}", zone, shape)
        for zone in ZONES
        for shape in SHAPES
        for number in range(1, shape.count + 1)
    )


def topology_of(node: DemoNode) -> Topology:
    """The links between the node's GPUs."""
    build = {"nvswitch": nvswitch, "bridges": bridges, "pcie": pcie_only}[node.shape.links]
    return build(node.model, node.shape.gpus)


def capacity(nodes: tuple[DemoNode, ...]) -> dict[str, float]:
    """Units by pool: memory units of the GPUs that may be cut, and the number of GPUs given whole."""
    units = dict.fromkeys(POOL_MODELS, 0.0)
    whole = 0.0
    for node in nodes:
        if not node.shape.mig:
            whole += node.shape.gpus
            continue
        for pool, names in POOL_MODELS.items():
            if node.shape.model in names:
                units[pool] += node.shape.gpus * node.model.units
    return {**units, "whole": whole}


def gpu_uuid(node: DemoNode, index: int) -> str:
    """A stable made-up UUID in NVML's form."""
    digest = sum((i + 1) * byte for i, byte in enumerate(node.name.encode())) % 0xFFFFFF
    return f"GPU-{digest:08x}-0000-4000-8000-{index:012x}"


def node_labels(node: DemoNode) -> dict[str, str]:
    """Labels as GPU feature discovery and a cloud provider set them, and ours for the links."""
    shape, model = node.shape, node.model
    return {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": shape.instance_type,
        "topology.kubernetes.io/region": node.zone.region,
        "topology.kubernetes.io/zone": node.zone.zone,
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": shape.product,
        "nvidia.com/gpu.memory": str(model.memory_mib),
        "nvidia.com/gpu.count": str(shape.gpus),
        "nvidia.com/mig.capable": "true" if model.profiles else "false",
        TOPOLOGY_LABEL: shape.links,
        "type": "kwok",
    }


def node_manifest(node: DemoNode) -> dict[str, Any]:
    """A core/v1 Node that kwok brings to life. GPUs are not in its capacity: they come as ResourceSlices."""
    amounts = {"cpu": str(node.shape.cpus), "memory": f"{node.shape.memory_gib}Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": node_labels(node),
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {},
        "status": {"capacity": amounts, "allocatable": amounts},
    }
