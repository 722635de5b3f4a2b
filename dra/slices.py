"""ResourceSlices for an inventory: as our driver publishes them, and as NVIDIA's would for the same hardware.

Ours (driver ``gpu.slicewise.io``): one pool a node; one slice a GPU, MIG placements in least-harm order for
what is occupied now, the whole GPU last, so that first-fit itself packs. Re-publishing one GPU's order
changes one slice and needs no new generation. NVIDIA's (``gpu.nvidia.com``): one slice a GPU, devices sorted
by name.

Counters of a partitionable GPU, both forms: one per memory slice (unit) and one per engine kind whose use is
known for all profiles; capacity is the largest use by any profile. Compute slices get no counter: 7 of them
meet 8 memory units, and the units bind first. The whole GPU consumes every counter. From Kubernetes 1.35
counters must be in slices of their own (at most 8 sets each); in 1.34 they are in the slice of the devices
that use them.

Attributes of ours: type (gpu, mig), model (catalogue name), productName, architecture, index; of a whole GPU
also uuid, nvlinkTopology, nvlinkIsland (GPUs with the same value have direct links), clique; of a partition
also parentUUID, profile, placementStart. A clique is the rack-scale NVLink domain.

Limits kept (KEP-4815): 64 devices a slice with counters, 8 sets a slice, 32 counters a set, 2 consumptions a
device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from dra.catalog import GpuModel, MigProfile
from dra.inventory import NVIDIA_DRIVER, SLICEWISE_DRIVER, Gpu, NodeInventory
from dra.mig import Placement, geometry
from dra.nvlink import islands
from dra.quantity import mebibytes

Version = Literal["1.34", "1.35+"]
Json = dict[str, Any]

MOST_DEVICES = 64
MOST_COUNTER_SETS = 8
MOST_COUNTERS = 32

_MOST_NAME = 253
_ENGINES = (
    "multiprocessors",
    "copy-engines",
    "decoders",
    "encoders",
    "jpeg-engines",
    "ofa-engines",
    "memory_mib",
)


def to_slices(
    inventory: NodeInventory,
    occupied_masks: Sequence[int],
    weights: Mapping[str, float],
    *,
    version: Version = "1.35+",
    generation: int = 1,
) -> list[Json]:
    """Our driver's slices, JSON-ready, counter slices first.

    ``occupied_masks``: occupied units of each GPU by position; ``weights``: as for ``Geometry.lost``.
    Raises ValueError when the masks are not one for each GPU.
    """
    if len(occupied_masks) != len(inventory.gpus):
        raise ValueError(
            f"node {inventory.node}: got {len(occupied_masks)} occupied masks for {len(inventory.gpus)} GPUs"
        )
    island_of = _island_of(inventory)
    bodies: list[list[Json]] = []
    for position, gpu in enumerate(inventory.gpus):
        order = geometry(gpu.model).least_harm_order(occupied_masks[position], weights)
        offered = set(inventory.orders[position]) or set(order)
        devices = [_partition(gpu, p) for p in order if p in offered] if gpu.partitionable else []
        if gpu.whole:
            devices.append(_whole(inventory, gpu, island_of[position]))
        bodies.append(devices)
    counters = [
        _counter_set(gpu, device_name(gpu), zeros=False) if gpu.partitionable else None
        for gpu in inventory.gpus
    ]
    return _assemble(inventory.node, SLICEWISE_DRIVER, inventory.pool, bodies, counters, version, generation)


def nvidia_slices(inventory: NodeInventory, *, version: Version = "1.35+", generation: int = 1) -> list[Json]:
    """The same hardware as NVIDIA's driver publishes it with dynamic MIG: by device name, no links, no
    islands.
    """
    bodies = [sorted(_nvidia_devices(gpu), key=lambda device: device["name"]) for gpu in inventory.gpus]
    counters = [
        _counter_set(gpu, f"{device_name(gpu)}-counter-set", zeros=True) if gpu.partitionable else None
        for gpu in inventory.gpus
    ]
    return _assemble(inventory.node, NVIDIA_DRIVER, inventory.pool, bodies, counters, version, generation)


def device_name(gpu: Gpu, placement: Placement | None = None) -> str:
    """Our name of a device: "gpu-0", "gpu-0-1g10gb-6". A suffix keeps its sign in words, as names have
    none.
    """
    if placement is None:
        return f"gpu-{gpu.index}"
    profile = placement.profile.replace("-me", "-nome").replace("+", "-")
    return f"gpu-{gpu.index}-{profile.replace('.all', '-all').replace('.', '')}-{placement.start}"


@lru_cache(maxsize=256)
def counter_totals(model: GpuModel) -> Mapping[str, int]:
    """Counters of one GPU without its memory slices: engine kinds known for every profile, largest use
    each.
    """
    uses = [_engines(profile) for profile in model.profiles]
    known = [name for name in _ENGINES if uses and all(name in use for use in uses)]
    return MappingProxyType({name: max(use[name] for use in uses) for name in known})


def _engines(profile: MigProfile) -> dict[str, int]:
    return dict(profile.capacities)


def _island_of(inventory: NodeInventory) -> list[int]:
    """The island number of each GPU: the index of its first member, so that it says something to a reader."""
    numbers = [gpu.index for gpu in inventory.gpus]
    for bits in islands(inventory.topology):
        members = [p for p in range(len(inventory.gpus)) if bits >> p & 1]
        for position in members:
            numbers[position] = min(inventory.gpus[p].index for p in members)
    return numbers


def _whole(inventory: NodeInventory, gpu: Gpu, island: int) -> Json:
    attributes = {
        "type": {"string": "gpu"},
        **_common_attributes(gpu),
        "uuid": {"string": gpu.uuid},
        "nvlinkTopology": {"string": inventory.topology.kind},
        "nvlinkIsland": {"int": island},
    }
    if inventory.topology.clique is not None:
        attributes["clique"] = {"string": inventory.topology.clique}
    device: Json = {
        "name": device_name(gpu),
        "attributes": attributes,
        "capacity": {"memory": {"value": mebibytes(gpu.model.memory_mib)}},
    }
    if gpu.partitionable:
        used = _spelled(counter_totals(gpu.model), zeros=False) | _unit_counters(0, gpu.model.units)
        device["consumesCounters"] = [{"counterSet": device_name(gpu), "counters": used}]
    return device


def _partition(gpu: Gpu, placement: Placement) -> Json:
    profile = _profile(gpu.model, placement)
    return {
        "name": device_name(gpu, placement),
        "attributes": {
            "type": {"string": "mig"},
            **_common_attributes(gpu),
            "parentUUID": {"string": gpu.uuid},
            "profile": {"string": placement.profile},
            "placementStart": {"int": placement.start},
        },
        "capacity": {"memory": {"value": mebibytes(_memory_mib(profile))}},
        "consumesCounters": [
            {
                "counterSet": device_name(gpu),
                "counters": _used(gpu.model, profile, zeros=False)
                | _unit_counters(placement.start, placement.size),
            }
        ],
    }


def _common_attributes(gpu: Gpu) -> Json:
    attributes: Json = {"model": {"string": gpu.model.name}, "index": {"int": gpu.index}}
    attributes["productName"] = {"string": gpu.product or _product(gpu.model)}
    if gpu.model.architecture:
        attributes["architecture"] = {"string": gpu.model.architecture}
    return attributes


def _nvidia_devices(gpu: Gpu) -> list[Json]:
    set_name = f"{device_name(gpu)}-counter-set"
    common = {"productName": {"string": gpu.product or _product(gpu.model)}}
    if gpu.model.architecture:
        common["architecture"] = {"string": gpu.model.architecture}
    memory = {"memory": {"value": mebibytes(gpu.model.memory_mib)}}
    whole: Json = {
        "name": device_name(gpu),
        "attributes": {"type": {"string": "gpu"}, "uuid": {"string": gpu.uuid}, **common},
        "capacity": memory,
    }
    if not gpu.partitionable:
        return [whole]
    totals = counter_totals(gpu.model)
    whole["capacity"] = memory | _capacities(totals)
    used = _spelled(totals, zeros=True) | _unit_counters(0, gpu.model.units)
    whole["consumesCounters"] = [{"counterSet": set_name, "counters": used}]
    devices = [whole]
    for placement in geometry(gpu.model).placements:
        profile = _profile(gpu.model, placement)
        engines = {name: use for name, use in _engines(profile).items() if name in totals}
        devices.append(
            {
                "name": _nvidia_name(gpu, profile, placement.start),
                "attributes": {
                    "type": {"string": "mig"},
                    "parentUUID": {"string": gpu.uuid},
                    "profile": {"string": placement.profile},
                    **common,
                },
                "capacity": {"memory": {"value": mebibytes(_memory_mib(profile))}} | _capacities(engines),
                "consumesCounters": [
                    {
                        "counterSet": set_name,
                        "counters": _used(gpu.model, profile, zeros=True)
                        | _unit_counters(placement.start, placement.size),
                    }
                ],
            }
        )
    return devices


def _nvidia_name(gpu: Gpu, profile: MigProfile, start: int) -> str:
    letters = "".join(c if c.isalnum() or c == "-" else "-" for c in profile.name.lower().replace(".", ""))
    return f"gpu-{gpu.index}-mig-{letters}-{profile.profile_id or 0}-{start}"


def _capacities(engines: Mapping[str, int]) -> Json:
    """NVIDIA spells capacities in camel case where counters have hyphens."""
    camel: Callable[[str], str] = lambda name: name[0] + name.title().replace("-", "")[1:]  # noqa: E731
    return {camel(name): {"value": str(use)} for name, use in engines.items() if name != "memory_mib"}


def _counter_set(gpu: Gpu, name: str, *, zeros: bool) -> Json:
    totals = _spelled(counter_totals(gpu.model), zeros=zeros)
    return {"name": name, "counters": totals | _unit_counters(0, gpu.model.units)}


def _used(model: GpuModel, profile: MigProfile, *, zeros: bool) -> Json:
    totals = counter_totals(model)
    engines = {name: use for name, use in _engines(profile).items() if name in totals}
    return _spelled(engines, zeros=zeros)


def _spelled(engines: Mapping[str, int], *, zeros: bool) -> Json:
    counters: Json = {}
    for name, use in engines.items():
        if use or zeros:
            plain = name != "memory_mib"
            counters[name if plain else "memory"] = {"value": str(use) if plain else mebibytes(use)}
    return counters


def _unit_counters(start: int, size: int) -> Json:
    return {f"memory-slice-{unit}": {"value": "1"} for unit in range(start, start + size)}


def _profile(model: GpuModel, placement: Placement) -> MigProfile:
    profile = model.profile(placement.profile)
    if profile is None:
        raise ValueError(
            f"GPU model {model.name} has no profile {placement.profile}; it has "
            f"{', '.join(p.name for p in model.profiles) or 'none'}"
        )
    return profile


def _memory_mib(profile: MigProfile) -> int:
    return _engines(profile).get("memory_mib", profile.memory_gb * 1024)


def _product(model: GpuModel) -> str:
    return model.products[0] if model.products else model.name


def _assemble(
    node: str,
    driver: str,
    pool: str | None,
    bodies: Sequence[list[Json]],
    counters: Sequence[Json | None],
    version: Version,
    generation: int,
) -> list[Json]:
    """Wrap the devices of each GPU and the counter sets into slices of one complete pool."""
    specs: list[Json] = []
    if version == "1.34":
        for devices, counter_set in zip(bodies, counters, strict=True):
            own = {"sharedCounters": [counter_set]} if counter_set is not None else {}
            specs.append({**own, "devices": devices})
    else:
        sets = [counter_set for counter_set in counters if counter_set is not None]
        for first in range(0, len(sets), MOST_COUNTER_SETS):
            specs.append({"sharedCounters": sets[first : first + MOST_COUNTER_SETS]})
        specs += [{"devices": devices} for devices in bodies]
    pool_json = {"name": pool or node, "generation": generation, "resourceSliceCount": len(specs)}
    return [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": _slice_name(index, driver, node)},
            "spec": {"driver": driver, "pool": pool_json, "nodeName": node, **spec},
        }
        for index, spec in enumerate(specs)
    ]


def _slice_name(index: int, driver: str, node: str) -> str:
    """Five hex digits first: the in-tree allocator reads slices in name order."""
    name = f"{index:05x}-{driver}-{node}"
    if len(name) <= _MOST_NAME:
        return name
    digest = hashlib.sha256(node.encode()).hexdigest()[:16]
    return f"{name[: _MOST_NAME - 17]}-{digest}"
