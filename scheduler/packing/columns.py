"""The knapsack of the packing LP: the best filling of a GPU's, or a node's, free space under given class
prices.

``V(mask)``, mask = occupied memory units, is solved for all masks of a GPU model at once, fullest first: a
mask is worth the best placement that fits plus what remains after it. Placements are the model's legal ones
(``dra.mig``), so positions count, not sizes alone. At most one instance with media engines (``+me``) is
allowed, as on the hardware; whether an occupied GPU has given it away cannot be read from the mask, so V may
be slightly high there.

``W(F)`` is the value of F entirely free GPUs on one node: any multiset of k-GPU pods plus GPUs opened for MIG
at V(0). GPUs of one node are interchangeable here: NVLink is priced by its own term.

Both are exact, so they serve as the pricing problem of column generation (Gilmore & Gomory 1961) and, under
the final prices, as the tables that placements are scored by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dra.catalog import GpuModel
from dra.mig import Geometry
from scheduler.packing.mix import DemandClass

MIN_NODE_GPUS = 16
_WORTHLESS = 1e-12

Filling = tuple[tuple[int, int], ...]  # (class index, count) in class order
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ModelClasses:
    """Which classes a GPU model can serve: per placement of its geometry, and per number of whole GPUs."""

    model: GpuModel
    geometry: Geometry
    bits: Ints
    media: npt.NDArray[np.bool_]
    by_placement: tuple[tuple[int, ...], ...]
    by_gpus: Mapping[int, tuple[int, ...]]
    share: Mapping[int, float]  # class index -> GPU equivalents of one request on this model


def model_classes(model: GpuModel, geometry: Geometry, classes: Sequence[DemandClass]) -> ModelClasses:
    """Index ``classes`` by what can serve them on ``model``."""
    allowed = [(index, cls) for index, cls in enumerate(classes) if cls.allows(model.name)]
    profiles = {profile.name: profile for profile in model.profiles}
    by_profile: dict[str, list[int]] = {}
    by_gpus: dict[int, list[int]] = {}
    share: dict[int, float] = {}
    for index, cls in allowed:
        if cls.kind == "mig" and cls.profile in profiles:
            by_profile.setdefault(cls.profile, []).append(index)
            share[index] = profiles[cls.profile].size / model.units
        elif cls.kind == "whole":
            by_gpus.setdefault(cls.gpus, []).append(index)
            share[index] = float(cls.gpus)
    placements = geometry.placements
    return ModelClasses(
        model=model,
        geometry=geometry,
        bits=np.array([placement.bits for placement in placements], dtype=np.int64),
        media=np.array([profiles[p.profile].media for p in placements], dtype=np.bool_),
        by_placement=tuple(tuple(by_profile.get(p.profile, ())) for p in placements),
        by_gpus={gpus: tuple(found) for gpus, found in sorted(by_gpus.items())},
        share=share,
    )


@dataclass(frozen=True, slots=True)
class GpuTable:
    """V over occupied masks, and which placement each mask takes first (-1: none) without and with the
    media engine.
    """

    values: Floats
    plain: Floats
    plain_choice: Ints
    media_choice: Ints
    placement_class: tuple[int, ...]
    bits: Ints

    def filling(self, mask: int) -> Filling:
        """The optimal filling of one GPU whose units ``mask`` are occupied."""
        taken: Counter[int] = Counter()
        first = int(self.media_choice[mask])
        if first >= 0:
            taken[self.placement_class[first]] += 1
            mask |= int(self.bits[first])
        while (choice := int(self.plain_choice[mask])) >= 0:
            taken[self.placement_class[choice]] += 1
            mask |= int(self.bits[choice])
        return tuple(sorted(taken.items()))


@lru_cache(maxsize=8)
def _levels(units: int) -> tuple[Ints, ...]:
    """Masks grouped by the number of occupied units, fullest first; a placement always leads to an
    earlier group.
    """
    masks = np.arange(1 << units, dtype=np.int64)
    occupied = np.array([int(mask).bit_count() for mask in masks])
    return tuple(masks[occupied == level] for level in range(units, -1, -1))


def gpu_table(offer: ModelClasses, price: Floats) -> GpuTable:
    """Solve V for every mask of one model. ``price``: per class index, money per hour and request, on
    this model.
    """
    geometry = offer.geometry
    best = [max(found, key=lambda index: (price[index], -index), default=-1) for found in offer.by_placement]
    worth = np.array([price[index] if index >= 0 else 0.0 for index in best], dtype=np.float64)
    values = np.zeros(geometry.n_states)
    plain_choice = np.full(geometry.n_states, -1, dtype=np.int64)
    useful = worth > _WORTHLESS
    plain = np.flatnonzero(useful & ~offer.media) if len(best) else np.zeros(0, dtype=np.int64)
    media = np.flatnonzero(useful & offer.media) if len(best) else np.zeros(0, dtype=np.int64)
    if plain.size:
        bits, gain, fits = offer.bits[plain, None], worth[plain, None], geometry.fits[plain]
        for masks in _levels(offer.model.units):
            after = np.where(fits[:, masks], gain + values[masks | bits], 0.0)
            winner = after.argmax(axis=0)
            found = after[winner, np.arange(masks.size)]
            values[masks] = found
            plain_choice[masks] = np.where(found > 0.0, plain[winner], -1)
    total = values
    media_choice = np.full(geometry.n_states, -1, dtype=np.int64)
    if media.size:
        masks = np.arange(geometry.n_states, dtype=np.int64)
        with_media = worth[media, None] + values[masks | offer.bits[media, None]]
        after = np.where(geometry.fits[media], with_media, 0.0)
        winner = after.argmax(axis=0)
        found = after[winner, masks]
        media_choice = np.where(found > values + _WORTHLESS, media[winner], -1)
        total = np.maximum(values, found)
    return GpuTable(total, values, plain_choice, media_choice, tuple(best), offer.bits)


@dataclass(frozen=True, slots=True)
class NodeTable:
    """W over the number of free GPUs; ``step`` is the size taken first (0: nothing), ``step_class`` -1
    when it is MIG.
    """

    values: Floats
    step: tuple[int, ...]
    step_class: tuple[int, ...]
    opened: Filling

    def filling(self, free: int) -> Filling:
        """The optimal filling of ``free`` entirely free GPUs of one node."""
        taken: Counter[int] = Counter()
        while free > 0 and self.step[free] > 0:
            if self.step_class[free] >= 0:
                taken[self.step_class[free]] += 1
            else:
                taken.update(dict(self.opened))
            free -= self.step[free]
        return tuple(sorted(taken.items()))


def node_table(offer: ModelClasses, price: Floats, gpu: GpuTable | None, max_gpus: int) -> NodeTable:
    """Solve W(0..max_gpus) for one model; ``gpu`` None means its GPUs cannot be cut into MIG instances."""
    options: list[tuple[int, float, int]] = []
    for gpus, found in offer.by_gpus.items():
        index = max(found, key=lambda index: (price[index], -index))
        options.append((gpus, float(price[index]), index))
    opened = float(gpu.values[0]) if gpu is not None else 0.0
    if opened > _WORTHLESS:
        options.append((1, opened, -1))
    values, step, step_class = np.zeros(max_gpus + 1), [0] * (max_gpus + 1), [-1] * (max_gpus + 1)
    for free in range(1, max_gpus + 1):
        # A GPU may stay idle: then the node is worth what one GPU less is, and takes the same step.
        values[free], step[free], step_class[free] = values[free - 1], step[free - 1], step_class[free - 1]
        for gpus, gain, index in options:
            if gpus <= free and gain > _WORTHLESS and gain + values[free - gpus] > values[free] + _WORTHLESS:
                values[free], step[free], step_class[free] = gain + values[free - gpus], gpus, index
    return NodeTable(
        values, tuple(step), tuple(step_class), gpu.filling(0) if gpu is not None and opened else ()
    )
