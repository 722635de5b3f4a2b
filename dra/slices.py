"""ResourceSlices for an inventory: as our driver publishes them, and as NVIDIA's would for the same hardware.

Ours (driver ``gpu.slicewise.io``): one pool a node; MIG placements by profile, those of all GPUs of a model
in one slice, in the order that makes first-fit take the best of them (``dra.node_order``), then the whole
GPUs. Re-publishing an order changes the slices concerned and needs no new generation. In the form for 1.34,
and where each GPU's order is given: one slice a GPU, the whole GPU last. NVIDIA's (``gpu.nvidia.com``): one
slice a GPU, devices sorted by name.

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

from collections.abc import Callable, Mapping, Sequence

from dra.catalog import GpuModel, MigProfile
from dra.inventory import NVIDIA_DRIVER, SLICEWISE_DRIVER, Gpu, NodeInventory
from dra.mig import Placement, geometry
from dra.node_order import Run, run_places
from dra.nvlink import islands
from dra.quantity import mebibytes
from dra.slice_parts import (
    MOST_COUNTER_SETS,
    MOST_COUNTERS,
    MOST_DEVICES,
    Json,
    Version,
    counter_set,
    counter_totals,
    engines,
    memory_mib,
    name_of,
    partition_use,
    profile_of,
    slice_name,
    slice_specs,
    whole_use,
)

__all__ = [
    "MOST_COUNTERS",
    "MOST_COUNTER_SETS",
    "MOST_DEVICES",
    "Json",
    "Version",
    "counter_totals",
    "device_name",
    "nvidia_slices",
    "to_slices",
]


def to_slices(
    inventory: NodeInventory,
    occupied_masks: Sequence[int],
    weights: Mapping[str, float],
    *,
    version: Version = "1.35+",
    generation: int = 1,
    orders: Sequence[Sequence[Placement]] | None = None,
    runs: Sequence[Run] | None = None,
) -> list[Json]:
    """Our driver's slices, JSON-ready, counter slices first.

    ``occupied_masks``: occupied units of each GPU by position; ``weights``: as for ``Geometry.lost``. Where
    the order is decided otherwise: ``runs``, of all GPUs (``dra.node_order``), or ``orders``, of each GPU's
    placements. Raises ValueError when the masks are not one for each GPU.
    """
    if len(occupied_masks) != len(inventory.gpus):
        raise ValueError(
            f"node {inventory.node}: got {len(occupied_masks)} occupied masks for {len(inventory.gpus)} GPUs"
        )
    island_of = _island_of(inventory)
    wholes = [
        [_whole(inventory, gpu, island_of[position])] if gpu.whole else []
        for position, gpu in enumerate(inventory.gpus)
    ]
    counters = [
        counter_set(gpu.model, device_name(gpu), zeros=False) if gpu.partitionable else None
        for gpu in inventory.gpus
    ]
    offered = [set(order) for order in inventory.orders]
    if version == "1.34" or orders is not None:
        if orders is None:
            orders = _least_harm(inventory, occupied_masks, weights)
        bodies = [
            _parts(inventory, offered, [(position, placement) for placement in order]) + whole
            for position, (order, whole) in enumerate(zip(orders, wholes, strict=True))
        ]
    else:
        if runs is None:
            runs = _runs(inventory, _least_harm(inventory, occupied_masks, weights))
        cut = [gpu.partitionable for gpu in inventory.gpus]
        beside = [device for whole, parted in zip(wholes, cut, strict=True) if parted for device in whole]
        alone = [whole for whole, parted in zip(wholes, cut, strict=True) if not parted]
        bodies = [*(_parts(inventory, offered, run) for run in runs), beside, *alone]
        bodies = [devices for devices in bodies if devices]
    return _assemble(inventory.node, SLICEWISE_DRIVER, inventory.pool, bodies, counters, version, generation)


def _least_harm(
    inventory: NodeInventory, occupied_masks: Sequence[int], weights: Mapping[str, float]
) -> list[tuple[Placement, ...]]:
    return [
        geometry(gpu.model).least_harm_order(mask, weights)
        for gpu, mask in zip(inventory.gpus, occupied_masks, strict=True)
    ]


def _runs(inventory: NodeInventory, orders: Sequence[Sequence[Placement]]) -> list[Run]:
    """Each GPU's own order, the GPUs in theirs."""
    models = {position: gpu.model for position, gpu in enumerate(inventory.gpus) if gpu.partitionable}
    return [
        tuple((i, placement) for i in positions for placement in orders[i] if placement.profile == profile)
        for _, profile, positions in run_places(models)
    ]


def _parts(
    inventory: NodeInventory, offered: Sequence[set[Placement]], run: Sequence[tuple[int, Placement]]
) -> list[Json]:
    """The devices of a run, as far as the inventory has them; one made of hardware alone offers all.
    ``offered``: of each GPU.
    """
    return [
        _partition(inventory.gpus[position], placement)
        for position, placement in run
        if inventory.gpus[position].partitionable
        and (placement in offered[position] or not offered[position])
    ]


def nvidia_slices(inventory: NodeInventory, *, version: Version = "1.35+", generation: int = 1) -> list[Json]:
    """The same hardware as NVIDIA's driver publishes it with dynamic MIG: by device name, no links, no
    islands.
    """
    bodies = [sorted(_nvidia_devices(gpu), key=lambda device: device["name"]) for gpu in inventory.gpus]
    counters = [
        counter_set(gpu.model, f"{device_name(gpu)}-counter-set", zeros=True) if gpu.partitionable else None
        for gpu in inventory.gpus
    ]
    return _assemble(inventory.node, NVIDIA_DRIVER, inventory.pool, bodies, counters, version, generation)


def device_name(gpu: Gpu, placement: Placement | None = None) -> str:
    """Our name of a device: "gpu-0", "gpu-0-1g10gb-6". A suffix keeps its sign in words, as names have
    none.
    """
    return name_of(gpu.index, placement)


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
        used = whole_use(gpu.model, zeros=False)
        device["consumesCounters"] = [{"counterSet": device_name(gpu), "counters": used}]
    return device


def _partition(gpu: Gpu, placement: Placement) -> Json:
    profile = profile_of(gpu.model, placement)
    return {
        "name": device_name(gpu, placement),
        "attributes": {
            "type": {"string": "mig"},
            **_common_attributes(gpu),
            "parentUUID": {"string": gpu.uuid},
            "profile": {"string": placement.profile},
            "placementStart": {"int": placement.start},
        },
        "capacity": {"memory": {"value": mebibytes(memory_mib(profile))}},
        "consumesCounters": [
            {
                "counterSet": device_name(gpu),
                "counters": partition_use(gpu.model, placement, zeros=False),
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
    used = whole_use(gpu.model, zeros=True)
    whole["consumesCounters"] = [{"counterSet": set_name, "counters": used}]
    devices = [whole]
    for placement in geometry(gpu.model).placements:
        profile = profile_of(gpu.model, placement)
        known = {name: use for name, use in engines(profile).items() if name in totals}
        devices.append(
            {
                "name": _nvidia_name(gpu, profile, placement.start),
                "attributes": {
                    "type": {"string": "mig"},
                    "parentUUID": {"string": gpu.uuid},
                    "profile": {"string": placement.profile},
                    **common,
                },
                "capacity": {"memory": {"value": mebibytes(memory_mib(profile))}} | _capacities(known),
                "consumesCounters": [
                    {
                        "counterSet": set_name,
                        "counters": partition_use(gpu.model, placement, zeros=True),
                    }
                ],
            }
        )
    return devices


def _nvidia_name(gpu: Gpu, profile: MigProfile, start: int) -> str:
    letters = "".join(c if c.isalnum() or c == "-" else "-" for c in profile.name.lower().replace(".", ""))
    return f"gpu-{gpu.index}-mig-{letters}-{profile.profile_id or 0}-{start}"


def _capacities(uses: Mapping[str, int]) -> Json:
    """NVIDIA spells capacities in camel case where counters have hyphens."""
    camel: Callable[[str], str] = lambda name: name[0] + name.title().replace("-", "")[1:]  # noqa: E731
    return {camel(name): {"value": str(use)} for name, use in uses.items() if name != "memory_mib"}


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
    specs = slice_specs(bodies, counters, version)
    pool_json = {"name": pool or node, "generation": generation, "resourceSliceCount": len(specs)}
    return [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": slice_name(index, driver, node)},
            "spec": {"driver": driver, "pool": pool_json, "nodeName": node, **spec},
        }
        for index, spec in enumerate(specs)
    ]
