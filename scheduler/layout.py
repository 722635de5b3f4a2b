"""What one node offers, as ids, and how it and its occupancy are written into the columns.

A layout is made from the node's inventory when that changes (``dra.inventory``: DRA slices first, else
device-plugin labels) and kept while only occupancy moves. Pure but for the interning tables it fills.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dra.catalog import GpuModel, find_model, whole_gpu_model
from dra.inventory import NodeInventory
from dra.shared_gpus import NOTHING, Part, SharedGpu
from dra.turns import packed
from scheduler.columns import NO_ID, WHOLE_IS_GPU, WHOLE_IS_SHARED, Columns
from scheduler.first_fit import Room, Site
from scheduler.hardware import Hardware, profile_slots
from scheduler.host_needs import Need
from scheduler.interning import Interner
from scheduler.kept_objects import NodeFact
from scheduler.occupancy import Occupied


@dataclass(frozen=True, slots=True)
class Layout:
    """One node's hardware. ``shared_gpus``: how many GPUs its shared replicas stand for."""

    inventory: NodeInventory
    site: Site
    model_ids: tuple[int, ...]
    order_ids: tuple[int, ...]
    turns: tuple[int, ...]
    topology_id: int
    row_model: int
    mixed: bool
    whole_as: int
    shared_gpus: int
    static: tuple[tuple[int, int], ...]


def layout_of(
    node: NodeFact, inventory: NodeInventory, hardware: Hardware, profiles: Interner[str]
) -> Layout:
    """Number what the inventory holds."""
    model_ids = tuple(hardware.model_id(gpu.model) for gpu in inventory.gpus)
    main = _main_model(node, inventory)
    row_model = NO_ID if main is None else hardware.model_id(main)
    whole_as = _whole_as(node, inventory)
    site = Site(
        fulls=tuple((1 << gpu.model.units) - 1 for gpu in inventory.gpus),
        orders=inventory.orders,
        whole=tuple(gpu.whole for gpu in inventory.gpus),
        static_total=dict(inventory.static),
        shared_total=inventory.shared_replicas,
        whole_as=whole_as,
        shared=inventory.shared,
        turns=inventory.turns,
    )
    gpus = node.labels.get("nvidia.com/gpu.count", "")
    return Layout(
        inventory=inventory,
        site=site,
        model_ids=model_ids,
        order_ids=tuple(
            hardware.order_id(model_id, order)
            for model_id, order in zip(model_ids, inventory.orders, strict=True)
        ),
        turns=packed(inventory.turns, [profile_slots(gpu.model) for gpu in inventory.gpus]),
        topology_id=hardware.topology_id(inventory.topology, row_model) if inventory.gpus else NO_ID,
        row_model=row_model,
        mixed=len({*model_ids, *(hardware.model_id(gpu.model) for gpu in inventory.shared)}) > 1,
        whole_as=WHOLE_IS_GPU
        if whole_as is None
        else WHOLE_IS_SHARED
        if whole_as == "shared"
        else profiles.id(whole_as),
        shared_gpus=len(inventory.shared) or max(1, int(gpus) if gpus.isdecimal() else len(inventory.gpus)),
        static=tuple((profiles.id(profile), n) for profile, n in sorted(inventory.static.items())),
    )


def write_layout(columns: Columns, row: int, layout: Layout) -> None:
    """Write what a node offers into a blank row that is wide enough."""
    count = len(layout.model_ids)
    columns.gpu_count[row] = count
    columns.full[row, :count] = layout.site.fulls
    columns.model_id[row, :count] = layout.model_ids
    columns.order_id[row, :count] = layout.order_ids
    if layout.inventory.turns:
        columns.turns[row, :count] = layout.turns
    columns.whole[row, :count] = layout.site.whole
    columns.topology_id[row] = layout.topology_id
    columns.row_model[row] = layout.row_model
    columns.mixed[row] = layout.mixed
    columns.best_links[row] = layout.inventory.regime == "device-plugin"
    columns.whole_as[row] = layout.whole_as
    columns.shared_total[row] = layout.site.shared_total
    columns.shared_gpus[row] = layout.shared_gpus
    columns.share_most[row] = max((gpu.shares for gpu in layout.inventory.shared), default=0)
    columns.share_step_mib[row] = max((gpu.step_mib for gpu in layout.inventory.shared), default=0)
    for profile, total in layout.static:
        columns.static_total[row, profile] = total


def write_room(columns: Columns, row: int, layout: Layout, room: Occupied, profiles: Interner[str]) -> None:
    """Write what is taken on a node into its row."""
    count = len(room.expected.masks)
    columns.occupied[row, :count] = room.expected.masks
    columns.certain[row, :count] = room.certain.masks
    columns.shared_used[row] = room.expected.shared
    columns.shared_certain[row] = room.certain.shared
    if layout.site.shared:
        columns.share_left[row], columns.step_left[row] = _most_left(layout.site.shared, room.expected)
        certain = _most_left(layout.site.shared, room.certain)
        columns.share_left_certain[row], columns.step_left_certain[row] = certain
    if columns.static_total[row].any():
        _write_static(columns.static_used[row], room.expected, profiles)
        _write_static(columns.static_certain[row], room.certain, profiles)


def _most_left(shared: tuple[SharedGpu, ...], room: Room) -> Part:
    """The most shares that one of the shared GPUs has left, and the most memory, of it or another."""
    parts = room.parts or (NOTHING,) * len(shared)
    left = [(gpu.shares - used[0], gpu.shares - used[1]) for gpu, used in zip(shared, parts, strict=True)]
    return max(0, *(shares for shares, _ in left)), max(0, *(steps for _, steps in left))


def write_host(columns: Columns, row: int, left: Need) -> None:
    """Write the CPU and memory that are left on a node into its row."""
    columns.cpu_free[row], columns.memory_free[row] = left


def sweep_orders(columns: Columns, size: int, hardware: Hardware) -> NDArray[np.int32]:
    """Forget the orders of placements that none of the first ``size`` rows has; return old id → new id."""
    live = np.unique(columns.order_id[:size])
    renamed = np.maximum(hardware.keep_orders(int(order) for order in live), 0)
    columns.order_id[:] = renamed[columns.order_id]
    return renamed


def sweep_assets(columns: Columns, size: int, assets: Interner[str]) -> None:
    """Forget the images and weights that none of the first ``size`` rows has."""
    live = np.union1d(columns.image_ids[:size], columns.weight_ids[:size])
    renamed = np.append(assets.keep(int(asset) for asset in live), NO_ID)
    columns.image_ids[:] = renamed[columns.image_ids]
    columns.weight_ids[:] = renamed[columns.weight_ids]


def _write_static(used: NDArray[np.int32], room: Room, profiles: Interner[str]) -> None:
    used[:] = 0
    for profile, count in room.static:
        used[profiles.id(profile)] = count


def _main_model(node: NodeFact, inventory: NodeInventory) -> GpuModel | None:
    """The model that prices what is taken as a count: that of the GPUs, of the fixed instances, or of the
    shared GPUs.
    """
    if inventory.main_model is not None or not inventory.shared_replicas:
        return inventory.main_model
    product = node.labels.get("nvidia.com/gpu.product", "unknown GPU")
    found = find_model(product)
    return found if isinstance(found, GpuModel) else whole_gpu_model(product, 0)


def _whole_as(node: NodeFact, inventory: NodeInventory) -> str | None:
    """What ``nvidia.com/gpu`` stands for where it is no whole GPU: under the MIG strategy "single" one of
    equal instances, under sharing without renaming a replica; the inventory then lists no whole GPU.
    """
    if inventory.regime != "device-plugin" or inventory.gpus or "nvidia.com/gpu" not in node.allocatable:
        return None
    if len(inventory.static) == 1:
        return next(iter(inventory.static))
    return "shared" if inventory.shared_replicas else None
