"""The kinds of hardware in the fleet, as tables that whole columns can be looked up in at once.

Three kinds of values are numbered: GPU models, published orders of MIG placements (one GPU's devices in the
order that first-fit meets them), and NVLink topologies. A table over several of them is one flat array with
an offset for each, so that one gather answers for every GPU of every node:

    units taken = taken(profile)[order_offset[order_id] + (occupied & order_mask[order_id])]

Of several GPUs with room first-fit takes the one whose turn comes first (``dra.turns``): its rank is in four
bits of column ``turns`` that belong to the profile's place among those of the model (``turn_shift``).

Order 0 stands for "no MIG here" (GPUs beyond the node's count, GPUs that are not cut): nothing fits. Tables
are built on first use and extended when a new order or topology turns up. Pure; holds no lock: the Fleet's
lock covers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dra.catalog import GpuModel
from dra.mig import Placement, geometry
from dra.nvlink import Topology, best_set, set_bandwidth, share_tables
from dra.turns import MOST_PROFILES, RANK_BITS
from scheduler.interning import Interner

Order = tuple[Placement, ...]

UNLINKED_REFERENCE_GIGABYTES_PER_SECOND = 600.0
"""What a set without NVLink is measured against where its GPU model has none at all: NVLink of an A100, the
generation of the PCIe-only cards."""


@dataclass(frozen=True, slots=True)
class LinkTables:
    """For k whole GPUs, over topologies laid flat by their free bits (from ``offset[topology]`` on): share of
    the full speed (NaN where fewer than k are free), and whether NVLink joins the chosen set all round.
    """

    offset: NDArray[np.int64]
    first_fit_share: NDArray[np.float32]
    best_share: NDArray[np.float32]
    first_fit_linked: NDArray[np.bool_]
    best_linked: NDArray[np.bool_]


class Hardware:
    """Models, orders and topologies by id, with their flat tables."""

    def __init__(self) -> None:
        self.models: list[GpuModel] = []
        self.orders: Interner[tuple[int, Order]] = Interner([(-1, ())])
        self.topologies: Interner[tuple[Topology, int]] = Interner()
        self.epoch = 0
        self._offsets = np.zeros(1, dtype=np.int64)
        self._masks = np.zeros(1, dtype=np.uint16)
        self._next = 1
        self._taken: dict[str, tuple[int, NDArray[np.uint16]]] = {}
        self._links: dict[int, tuple[int, LinkTables]] = {}
        self._model_arrays: dict[str, NDArray[np.float64]] = {}
        self._model_ids: dict[tuple[str, int, int], int] = {}

    def model_id(self, model: GpuModel) -> int:
        """The id of a model."""
        # Not keyed by the model itself: hashing all its facts for each of 40,000 GPUs would take seconds.
        key = (model.name, model.memory_mib, model.units)
        found = self._model_ids.get(key)
        if found is None:
            found = self._model_ids[key] = len(self.models)
            self.models.append(model)
        return found

    def order_id(self, model_id: int, order: Order) -> int:
        """The id of a published order of placements on a model; the empty order is 0."""
        return self.orders.id((model_id, order)) if order else 0

    def topology_id(self, topology: Topology, model_id: int) -> int:
        """The id of a topology of GPUs of a model."""
        return self.topologies.id((topology, model_id))

    def order_offsets(self) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """int64[orders] where an order's states begin, uint16[orders] which bits of a mask count."""
        fresh = self.orders.values[len(self._offsets) :]
        if fresh:
            offsets, masks = [], []
            for model_id, _ in fresh:
                units = self.models[model_id].units if model_id >= 0 else 0
                offsets.append(self._next)
                masks.append((1 << units) - 1)
                self._next += 1 << units
            self._offsets = np.concatenate([self._offsets, np.array(offsets, dtype=np.int64)])
            self._masks = np.concatenate([self._masks, np.array(masks, dtype=np.uint16)])
        return self._offsets, self._masks

    def taken(self, profile: str) -> NDArray[np.uint16]:
        """uint16[states of all orders]: the units that first-fit takes for one instance of ``profile``, 0
        where none fits.
        """
        built, table = self._taken.get(profile, (0, np.zeros(0, dtype=np.uint16)))
        if built < len(self.orders):
            parts = [table]
            for model_id, order in self.orders.values[built:]:
                model = self.models[model_id] if model_id >= 0 else None
                parts.append(_taken_units(model, order, profile))
            table = np.concatenate(parts)
            self._taken[profile] = (len(self.orders), table)
        return table

    def turn_shift(self, profile: str) -> NDArray[np.int64]:
        """int64[models + 1]: by how many bits to shift ``turns`` for the rank of a GPU of the model; the
        highest, where every rank is 0, for models without the profile and for id -1.
        """
        last = RANK_BITS * MOST_PROFILES
        found = np.full(len(self.models) + 1, last, dtype=np.int64)
        for index, model in enumerate(self.models):
            slots = profile_slots(model)
            if profile in slots:
                found[index] = min(RANK_BITS * slots.index(profile), last)
        return found

    def model_facts(self, name: str, fact: Callable[[GpuModel], float]) -> NDArray[np.float64]:
        """float64[models]: one number of each model; ``name`` identifies the fact."""
        known = self._model_arrays.get(name)
        if known is None or len(known) < len(self.models):
            known = np.array([fact(model) for model in self.models], dtype=np.float64)
            self._model_arrays[name] = known
        return known

    def links(self, gpus: int) -> LinkTables:
        """The NVLink tables for ``gpus`` whole GPUs."""
        built, tables = self._links.get(gpus, (-1, None))
        if tables is None or built < len(self.topologies):
            known = [(topology, self.models[model_id]) for topology, model_id in self.topologies.values]
            tables = _link_tables(known, gpus)
            self._links[gpus] = (len(self.topologies), tables)
        return tables

    def keep_orders(self, live: Iterable[int]) -> NDArray[np.int32]:
        """Forget orders that no row has; return the renaming for the order column. Tables are rebuilt on
        next use.
        """
        renamed = self.orders.keep({0, *live})
        self._offsets, self._masks, self._next = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.uint16), 1
        self._taken.clear()
        self.epoch += 1
        return renamed


def profile_slots(model: GpuModel) -> tuple[str, ...]:
    """The profiles of a model that have a rank of their own in column ``turns``, in their places."""
    return tuple(profile.name for profile in model.profiles)[:MOST_PROFILES]


def _taken_units(model: GpuModel | None, order: Order, profile: str) -> NDArray[np.uint16]:
    if model is None:
        return np.zeros(1, dtype=np.uint16)
    spec = model.profile(profile)
    if spec is None:
        return np.zeros(1 << model.units, dtype=np.uint16)
    starts = geometry(model).first_start(order, profile).astype(np.int64)
    units = ((1 << spec.size) - 1) << np.maximum(starts, 0)
    return np.where(starts >= 0, units, 0).astype(np.uint16)


def full_speed(topology: Topology, gpus: int) -> float:
    """GB/s of the best set of ``gpus`` GPUs on the empty node; infinite for one, 0 where there are not so
    many.
    """
    chosen = best_set(topology, (1 << topology.gpus) - 1, gpus)
    return 0.0 if chosen is None else set_bandwidth(topology, chosen)


def speed_scale(topology: Topology, model: GpuModel, gpus: int) -> float:
    """What the best set of that size is worth on the empty node: 1 when NVLink joins it; else its speed
    over that of the GPU's own NVLink (or an A100's, for models without any), at most 1. Without it a node
    that has no NVLink would look as good as one that has.
    """
    speed = full_speed(topology, gpus)
    if speed > topology.pcie_gigabytes_per_second:
        return 1.0
    reference = (
        model.nvlink.gigabytes_per_second
        if model.nvlink is not None
        else UNLINKED_REFERENCE_GIGABYTES_PER_SECOND
    )
    return min(1.0, speed / reference)


def _link_tables(topologies: list[tuple[Topology, GpuModel]], gpus: int) -> LinkTables:
    offsets: list[int] = []
    first_share: list[NDArray[np.float32]] = []
    best_share: list[NDArray[np.float32]] = []
    first_linked: list[NDArray[np.bool_]] = []
    best_linked: list[NDArray[np.bool_]] = []
    position = 0
    for topology, model in topologies:
        offsets.append(position)
        position += 1 << topology.gpus
        shares = share_tables(topology, gpus)
        scale = np.float32(speed_scale(topology, model, gpus))
        # A set is linked when its slowest hop beats PCIe; shares are NaN, hence not linked, where too few
        # are free.
        speed, floor = full_speed(topology, gpus), topology.pcie_gigabytes_per_second * 1.0001
        first_share.append(shares.first_fit * scale)
        best_share.append(shares.best * scale)
        first_linked.append(shares.first_fit * np.float32(speed) > floor)
        best_linked.append(shares.best * np.float32(speed) > floor)
    return LinkTables(
        offset=np.array(offsets, dtype=np.int64),
        first_fit_share=_flat(first_share, np.float32),
        best_share=_flat(best_share, np.float32),
        first_fit_linked=_flat(first_linked, np.bool_),
        best_linked=_flat(best_linked, np.bool_),
    )


def _flat(parts: list[Any], dtype: Any) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)
