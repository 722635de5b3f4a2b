"""What GPUs a node offers, whoever publishes them: our DRA driver, NVIDIA's, or the device plugin with its
labels.

One shape for the three regimes. ``gpus`` is in the order in which first-fit meets whole GPUs (by index those
of our driver), and everything that speaks of "GPU i" (occupied masks, topology
bits, ``DeviceRef.gpu``) means position i of that tuple, not the driver's index. In which order first-fit
meets the GPUs for a MIG profile is told apart (``turns``), as a driver may publish the placements of several
GPUs together. Should the placements of two GPUs alternate, the first of each counts.

From slices: the highest generation of the node's pool counts and must be complete, as for the in-tree
allocator; slices are read in name order, devices in array order. A partition is recognised by the
``memory-slice-N`` counters it consumes, which both drivers use. A model whose placements the catalogue does
not know is learned from what the driver publishes.

From labels: GPU feature discovery and ``status.allocatable``. MIG instances of a device plugin are counts
(``static``) that cannot be told apart by GPU; ``gpus`` then holds only GPUs that can be had whole.

Sources: KEP-4815 (partitionable devices), KEP-5075 (shares of a GPU), kubernetes-sigs/dra-driver-nvidia-gpu
(names, attributes, counters), NVIDIA/k8s-device-plugin (labels). Devices of another kind (VFIO, compute
domains) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from dra.catalog import GpuModel, find_model, whole_gpu_model
from dra.device_groups import UNIT, Group, device_index, groups, in_order, number, text
from dra.learned import learned_model
from dra.mig import Placement, geometry
from dra.nvlink import CLIQUE_LABEL, MOST_GPUS, TOPOLOGY_LABEL, Topology, pcie_only, topology_for
from dra.nvlink_islands import as_told
from dra.quantity import amount
from dra.resource_api import Device, ResourceSlice
from dra.shared_gpus import SharedGpu, shared_steps
from dra.turns import turns

Regime = Literal["slicewise", "nvidia", "device-plugin"]

SLICEWISE_DRIVER = "gpu.slicewise.io"
NVIDIA_DRIVER = "gpu.nvidia.com"
PCIE_ROOT_DOMAIN, PCIE_ROOT = "resource.kubernetes.io", "pcieRoot"
"""The attribute in which every DRA driver names a device's PCIe root (KEP-4381)."""
GPUS_PER_PCIE_ROOT_LABEL = "slicewise.io/gpus-per-pcie-root"
"""Under the device plugin: how many GPUs, counted in index order, hang from one PCIe root of the node."""

_REGIMES: Mapping[str, Regime] = {SLICEWISE_DRIVER: "slicewise", NVIDIA_DRIVER: "nvidia"}
_RESOURCE_PROFILE = re.compile(r"nvidia\.com/mig-(\d+g\.\d+gb)(?:\.(me\.all|me|gfx)|(-me))?")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. ``partitionable``: MIG instances are made on demand. ``whole``: it is offered as a whole
    GPU. ``pcie_root``: name of the PCIe root it hangs from, "" where nobody says.
    """

    index: int
    uuid: str
    model: GpuModel
    partitionable: bool
    product: str = ""
    whole: bool = True
    pcie_root: str = ""


@dataclass(frozen=True, slots=True)
class DeviceRef:
    """What a device name stands for: a placement on the GPU at position ``gpu``, or the whole GPU (None)."""

    gpu: int
    placement: Placement | None


@dataclass(frozen=True, slots=True)
class NodeInventory:
    """The GPUs of a node. ``orders[i]``: the MIG placements of GPU i in published order. ``turns``: by
    profile the GPUs in the order in which their placements come, where that is not the order of ``gpus``.

    ``static``: device-plugin MIG counts by profile, cut from ``static_model``; ``shared_replicas``: shares
    of GPUs in time-slicing or MPS, those of all ``shared`` GPUs where a DRA driver tells them one by one, in
    published order. Those are not among ``gpus``: nobody gets one of them whole.
    """

    node: str
    regime: Regime
    driver: str | None
    pool: str | None
    gpus: tuple[Gpu, ...]
    topology: Topology
    orders: tuple[tuple[Placement, ...], ...]
    devices: Mapping[str, DeviceRef]
    static: Mapping[str, int]
    shared_replicas: int = 0
    static_model: GpuModel | None = None
    shared: tuple[SharedGpu, ...] = ()
    turns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def main_model(self) -> GpuModel | None:
        """The model that stands for the node: of its GPUs, of its fixed instances, or of its shared GPUs."""
        if self.gpus:
            return self.gpus[0].model
        return self.static_model or (self.shared[0].model if self.shared else None)

    def whole_mask(self, gpu: int) -> int:
        """The occupied mask of a GPU that is taken whole."""
        return (1 << self.gpus[gpu].model.units) - 1


def profile_of_resource(resource: str) -> str | None:
    """The MIG profile of a device-plugin resource: "nvidia.com/mig-1g.10gb.me" is "1g.10gb+me"; None for
    others.
    """
    match = _RESOURCE_PROFILE.fullmatch(resource)
    if match is None:
        return None
    plus, minus = match.group(2), match.group(3)
    return match.group(1) + (f"+{plus}" if plus else "") + (minus or "")


def from_slices(
    node: str, slices: Sequence[ResourceSlice], labels: Mapping[str, str] | None = None
) -> NodeInventory | None:
    """The inventory that a DRA driver publishes for ``node``; our driver goes before NVIDIA's where both do.

    ``slices`` may hold those of other nodes and drivers. ``labels`` of the node tell the NVLink wiring where
    the driver does not. None when neither driver has a complete pool with GPUs here.
    """
    for driver in (SLICEWISE_DRIVER, NVIDIA_DRIVER):
        own = [s for s in slices if s.spec.driver == driver and s.spec.node_name == node]
        if own:
            return _from_driver(node, driver, own, labels or {})
    return None


def from_labels(node: str, labels: Mapping[str, str], allocatable: Mapping[str, str]) -> NodeInventory | None:
    """The inventory of a node under NVIDIA's device plugin; None when it offers no ``nvidia.com`` GPU
    resource.

    Where GPUs are time-sliced without being renamed, ``nvidia.com/gpu`` counts shares: they become
    ``shared_replicas``.
    """
    static = {
        profile: count
        for resource, value in allocatable.items()
        if (profile := profile_of_resource(resource)) is not None and (count := _count(value)) > 0
    }
    plain = _count(allocatable.get("nvidia.com/gpu", "0"))
    shared = _count(allocatable.get("nvidia.com/gpu.shared", "0"))
    product = labels.get("nvidia.com/gpu.product", "unknown GPU")
    if not (static or plain or shared):
        return None
    model = _model(product, "", _count(labels.get("nvidia.com/gpu.memory", "0")))
    single = product.split("-MIG-")
    if len(single) == 2:
        # Strategy "single": nvidia.com/gpu counts equal MIG instances, named by the product label's tail.
        static[single[1]] = static.get(single[1], 0) + plain
        plain = 0
    elif product.endswith("-SHARED") or _count(labels.get("nvidia.com/gpu.replicas", "1")) > 1:
        shared, plain = max(shared, plain), 0
    plain = min(plain, MOST_GPUS)
    together = _count(labels.get(GPUS_PER_PCIE_ROOT_LABEL, "0"))
    gpus = tuple(
        Gpu(i, "", model, False, product, pcie_root=f"root {i // together}" if together else "")
        for i in range(plain)
    )
    topology = topology_for(model, max(1, plain), labels, product)
    return NodeInventory(
        node=node,
        regime="device-plugin",
        driver=None,
        pool=None,
        gpus=gpus,
        topology=topology,
        orders=tuple(() for _ in gpus),
        devices={},
        static=static,
        shared_replicas=shared,
        static_model=model if static else None,
    )


def _from_driver(
    node: str, driver: str, slices: Sequence[ResourceSlice], labels: Mapping[str, str]
) -> NodeInventory | None:
    pool = _complete_pool(slices)
    if not pool:
        return None
    units = {
        counters.name: sum(1 for name in counters.counters if UNIT.fullmatch(name))
        for item in pool
        for counters in item.spec.shared_counters
    }
    by_gpu = groups((device for item in pool for device in item.spec.devices), driver, units)
    shared = tuple(gpu for item in pool for device in item.spec.devices if (gpu := _shared(device, driver)))
    if not by_gpu and not shared:
        return None
    listed = in_order(by_gpu.values(), driver)[:MOST_GPUS]
    gpus: list[Gpu] = []
    orders: list[tuple[Placement, ...]] = []
    devices: dict[str, DeviceRef] = {}
    for position, group in enumerate(listed):
        gpus.append(_gpu(position, group, driver))
        orders.append(tuple(placement for _, placement in group.parts))
        if group.whole is not None:
            devices[group.whole.name] = DeviceRef(position, None)
        for device, placement in group.parts:
            devices[device.name] = DeviceRef(position, placement)
    return NodeInventory(
        node=node,
        regime=_REGIMES[driver],
        driver=driver,
        pool=pool[0].spec.pool.name,
        gpus=tuple(gpus),
        topology=_topology(gpus, listed, driver, labels) if gpus else pcie_only(shared[0].model, 1),
        orders=tuple(orders),
        devices=devices,
        static={},
        shared_replicas=sum(gpu.shares for gpu in shared),
        shared=shared,
        turns=turns([group.first_at for group in listed]),
    )


def _complete_pool(slices: Sequence[ResourceSlice]) -> list[ResourceSlice]:
    """Slices of the first complete pool in name order: its highest generation, sorted by object name; else
    empty.
    """
    for name in sorted({s.spec.pool.name for s in slices}):
        pool = [s for s in slices if s.spec.pool.name == name]
        newest = max(s.spec.pool.generation for s in pool)
        pool = sorted((s for s in pool if s.spec.pool.generation == newest), key=lambda s: s.metadata.name)
        # The in-tree allocator compares with the first slice's count; a driver bug could make them differ.
        if len(pool) == pool[0].spec.pool.resource_slice_count:
            return pool
    return []


@lru_cache(maxsize=256)
def _legal(model: GpuModel) -> frozenset[Placement]:
    return frozenset(geometry(model).placements)


def _gpu(position: int, group: Group, driver: str) -> Gpu:
    sample = group.whole if group.whole is not None else group.parts[0][0]
    product = text(sample, driver, "productName")
    memory = sample.capacity.get("memory")
    mebibytes = (amount(memory.value) if memory is not None else None) or 0
    model = _model(product or sample.name, text(sample, driver, "model"), int(mebibytes / (1024 * 1024)))
    placements = tuple(placement for _, placement in group.parts)
    if not _legal(model).issuperset(placements):
        model = learned_model(model, group.units, [(device.name, p) for device, p in group.parts])
    uuid_name = "uuid" if group.whole is not None else "parentUUID"
    return Gpu(
        index=device_index(sample.name, position),
        uuid=text(sample, driver, uuid_name),
        model=model,
        partitionable=group.counted and bool(placements),
        product=product,
        whole=group.whole is not None,
        pcie_root=text(sample, PCIE_ROOT_DOMAIN, PCIE_ROOT),
    )


def _shared(device: Device, driver: str) -> SharedGpu | None:
    steps = shared_steps(device) if text(device, driver, "type") == "shared" else None
    if steps is None:
        return None
    product = text(device, driver, "productName")
    memory = device.capacity.get("memory")
    mebibytes = (amount(memory.value) if memory is not None else None) or 0
    index = number(device, driver, "index")
    return SharedGpu(
        name=device.name,
        index=-1 if index is None else index,
        uuid=text(device, driver, "uuid"),
        model=_model(product or device.name, text(device, driver, "model"), int(mebibytes / (1024 * 1024))),
        shares=steps[0],
        step_mib=steps[1],
        product=product,
        mode=text(device, driver, "sharing"),
    )


def _model(product: str, name: str, memory_mib: int) -> GpuModel:
    for text_ in (name, product):
        found = find_model(text_) if text_ else None
        if isinstance(found, GpuModel):
            return found
    return whole_gpu_model(product, memory_mib)


def _topology(gpus: list[Gpu], groups: list[Group], driver: str, labels: Mapping[str, str]) -> Topology:
    """Wiring by GPU index, then renamed to positions; indices that do not fit a node leave it without
    NVLink.
    """
    sample = next((group.whole for group in groups if group.whole is not None), None)
    known = dict(labels)
    if sample is not None:
        for attribute, label in (("nvlinkTopology", TOPOLOGY_LABEL), ("clique", CLIQUE_LABEL)):
            if value := text(sample, driver, attribute):
                known[label] = value
    order = tuple(gpu.index for gpu in gpus)
    present = max(order) + 1
    if present > MOST_GPUS or len(set(order)) != len(order):
        return pcie_only(gpus[0].model, len(gpus))
    usual = topology_for(gpus[0].model, present, known, gpus[0].product).reordered(order)
    told = [None if group.whole is None else number(group.whole, driver, "nvlinkIsland") for group in groups]
    return as_told(usual, told, gpus[0].model)


def _count(value: str) -> int:
    number = amount(value)
    return int(number) if number is not None and number > 0 else 0
