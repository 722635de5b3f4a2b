"""A made-up cluster for load tests: a snapshot of N nodes × 8 GPUs in every regime, partly occupied, from a
seed.

Shares of nodes: 45 % device plugin with whole GPUs, 10 % device plugin with a fixed MIG layout, 25 % our DRA
driver and 20 % NVIDIA's with MIG made on demand. Models A100-80GB and H100-80GB with MIG, L40S without.
Occupancy is drawn per node, so that full, half-full and empty nodes all occur; what is occupied is bound pods
(device plugin) or allocated claims (DRA).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from dra.catalog import GpuModel, models
from dra.inventory import NVIDIA_DRIVER, SLICEWISE_DRIVER, Gpu, NodeInventory
from dra.mig import geometry
from dra.nvlink import nvswitch
from dra.slices import device_name, nvidia_slices, to_slices
from scheduler.snapshot import Snapshot

GPUS = 8
REGIONS = ("eu-north-1", "eu-central-1", "us-east-1")
PRODUCTS = {
    "A100-80GB": "NVIDIA-A100-SXM4-80GB",
    "H100-80GB": "NVIDIA-H100-80GB-HBM3",
    "L40S-48GB": "NVIDIA-L40S",
}
CLASSES = {
    "gpu.nvidia.com": (
        "nvidia.com/gpu",
        "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'",
    ),
    "mig-1g10gb": (
        "nvidia.com/mig-1g.10gb",
        "device.driver == 'gpu.slicewise.io' && device.attributes['gpu.slicewise.io'].profile == '1g.10gb'",
    ),
    "mig-3g40gb": (
        "nvidia.com/mig-3g.40gb",
        "device.driver == 'gpu.slicewise.io' && device.attributes['gpu.slicewise.io'].profile == '3g.40gb'",
    ),
}
POLICY = """\
apiVersion: slicewise.io/v1alpha1
kind: ClusterPolicy
prices: {gpuHour: 2.5, gpuHourByModel: {H100-80GB: 4.0, L40S-48GB: 1.0}}
carbon: {provider: static, static: {SE: 30, DE: 350, US-MIDA-PJM: 380}}
"""

Json = dict[str, Any]


def fleet_snapshot(nodes: int, seed: int = 1, busy: tuple[float, float] = (0.0, 1.0)) -> Snapshot:
    """Make the snapshot. ``busy``: between which shares a node's occupancy is drawn."""
    parts = _Parts(random.Random(seed), busy)
    for index in range(nodes):
        parts.add(f"gpu-{index:05d}", index)
    classes = [
        {
            "metadata": {"name": name},
            "spec": {"extendedResourceName": resource, "selectors": [{"cel": {"expression": expression}}]},
        }
        for name, (resource, expression) in CLASSES.items()
    ]
    return Snapshot(
        taken_at="2026-11-21T00:00:00Z",
        nodes=_raws(parts.nodes),
        pods=_raws(parts.pods),
        resource_slices=parts.slices,
        resource_claims=_raws(parts.claims),
        device_classes=_raws(classes),
        policy=POLICY,
    )


class _Parts:
    """The objects made so far."""

    def __init__(self, rng: random.Random, busy: tuple[float, float] = (0.0, 1.0)) -> None:
        self.rng = rng
        self.busy = busy
        self.nodes: list[Json] = []
        self.pods: list[Json] = []
        self.claims: list[Json] = []
        self.slices: list[msgspec.Raw] = []

    def add(self, name: str, index: int) -> None:
        """Make one node and what runs on it."""
        regime = self.rng.random()
        busy = self.rng.uniform(*self.busy)
        if regime < 0.45:
            model = ("A100-80GB", "H100-80GB", "L40S-48GB")[index % 3]
            self._node(name, index, model, {"nvidia.com/gpu": str(GPUS)})
            for gpu in range(GPUS):
                if self.rng.random() < busy:
                    self._pod(f"{name}-{gpu}", name, {"nvidia.com/gpu": "1"})
        elif regime < 0.55:
            self._node(
                name,
                index,
                "A100-80GB",
                {"nvidia.com/mig-1g.10gb": "16", "nvidia.com/mig-3g.40gb": "8"},
                mig="mixed",
            )
            for slot in range(16):
                if self.rng.random() < busy:
                    self._pod(f"{name}-{slot}", name, {"nvidia.com/mig-1g.10gb": "1"})
        else:
            self._dra(name, index, busy, ours=regime < 0.80)

    def _node(self, name: str, index: int, model: str | None, allocatable: Json, mig: str = "") -> None:
        labels = {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/region": REGIONS[index % len(REGIONS)],
            "node.kubernetes.io/instance-type": "gpu-8x",
        }
        if model is not None:
            labels |= {"nvidia.com/gpu.product": PRODUCTS[model], "nvidia.com/gpu.count": str(GPUS)}
            labels["nvidia.com/gpu.memory"] = str(models()[model].memory_mib)
        if mig:
            labels["nvidia.com/mig.strategy"] = mig
        images = [
            {"names": [f"registry.example/model-{(index + i) % 40}:1"], "sizeBytes": 10**9} for i in range(12)
        ]
        status = {
            "allocatable": {"cpu": "192", "memory": "2Ti", "pods": "110", **allocatable},
            "images": images,
        }
        self.nodes.append({"metadata": {"name": name, "labels": labels}, "status": status})

    def _pod(self, name: str, node: str, limits: Json) -> None:
        self.pods.append(
            {
                "metadata": {"name": name, "namespace": "load", "uid": f"uid-{name}"},
                "spec": {
                    "nodeName": node,
                    "containers": [{"name": "c", "image": "m", "resources": {"limits": limits}}],
                },
                "status": {"phase": "Running"},
            }
        )

    def _dra(self, name: str, index: int, busy: float, *, ours: bool) -> None:
        model = models()[("A100-80GB", "H100-80GB")[index % 2]]
        self._node(name, index, None, {})
        order = geometry(model).least_harm_order(0, {})
        gpus = tuple(Gpu(i, f"GPU-{index:05d}-{i}", model, True, model.products[0]) for i in range(GPUS))
        inventory = NodeInventory(
            name,
            "slicewise" if ours else "nvidia",
            SLICEWISE_DRIVER if ours else NVIDIA_DRIVER,
            name,
            gpus,
            nvswitch(model, GPUS),
            (order,) * GPUS,
            {},
            {},
        )
        masks = [0] * GPUS
        for gpu in range(GPUS):
            for placement in self._cuts(model, busy):
                masks[gpu] |= placement.bits
                device = (
                    device_name(gpus[gpu], placement)
                    if ours
                    else _nvidia_name(gpu, model, placement.profile, placement.start)
                )
                self._claim(f"{name}-{gpu}-{placement.start}", inventory.driver or "", name, device)
        made = to_slices(inventory, masks, {}) if ours else nvidia_slices(inventory)
        self.slices.extend(msgspec.Raw(msgspec.json.encode(item)) for item in made)

    def _cuts(self, model: GpuModel, busy: float) -> Iterator[Any]:
        taken = 0
        plain = [p for p in geometry(model).placements if "+" not in p.profile]
        for placement in self.rng.sample(plain, 5):
            if self.rng.random() < busy and not placement.bits & taken:
                taken |= placement.bits
                yield placement

    def _claim(self, name: str, driver: str, pool: str, device: str) -> None:
        result = {"request": "r", "driver": driver, "pool": pool, "device": device}
        self.claims.append(
            {
                "metadata": {"name": name, "namespace": "load", "uid": f"uid-{name}"},
                "status": {"allocation": {"devices": {"results": [result]}}},
            }
        )


def _nvidia_name(gpu: int, model: GpuModel, profile: str, start: int) -> str:
    found = model.profile(profile)
    assert found is not None
    return f"gpu-{gpu}-mig-{profile.replace('.', '')}-{found.profile_id}-{start}"


def _raws(items: list[Json]) -> list[msgspec.Raw]:
    return [msgspec.Raw(msgspec.json.encode(item)) for item in items]
