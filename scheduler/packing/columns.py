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
the final prices, as the tables that placements are scored by. Several price vectors are solved at once, one a
row b: nodes that are short of CPU or memory see other net prices than those with plenty.
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
_NEVER = -1e30

Filling = tuple[tuple[int, int], ...]  # (class index, count) in class order
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ModelClasses:
    """Which classes a GPU model can serve: per placement of its geometry, and per number of whole GPUs.

    ``offers``: (classes, placements) that belong together, one a profile that is asked for.
    """

    model: GpuModel
    geometry: Geometry
    bits: Ints
    media: npt.NDArray[np.bool_]
    by_placement: tuple[tuple[int, ...], ...]
    by_gpus: Mapping[int, tuple[int, ...]]
    share: Mapping[int, float]  # class index -> GPU equivalents of one request on this model
    offers: tuple[tuple[Ints, Ints], ...] = ()


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
    rows: dict[str, list[int]] = {}
    for row, placement in enumerate(placements):
        rows.setdefault(placement.profile, []).append(row)
    return ModelClasses(
        model=model,
        geometry=geometry,
        bits=np.array([placement.bits for placement in placements], dtype=np.int64),
        media=np.array([profiles[p.profile].media for p in placements], dtype=np.bool_),
        by_placement=tuple(tuple(by_profile.get(p.profile, ())) for p in placements),
        by_gpus={gpus: tuple(found) for gpus, found in sorted(by_gpus.items())},
        share=share,
        offers=tuple(
            (np.array(found, dtype=np.int64), np.array(rows[profile], dtype=np.int64))
            for profile, found in by_profile.items()
            if profile in rows
        ),
    )


@dataclass(frozen=True, slots=True)
class GpuTables:
    """V [b, mask], and which placement each mask takes first (-1: none) without and with the media engine;
    ``placement_class`` [b, placement].
    """

    values: Floats
    plain_choice: Ints
    media_choice: Ints
    placement_class: Ints
    bits: Ints

    def filling(self, mask: int, row: int = 0) -> Filling:
        """The optimal filling of one GPU whose units ``mask`` are occupied, under price row ``row``."""
        taken: Counter[int] = Counter()
        served, plain = self.placement_class[row], self.plain_choice[row]
        first = int(self.media_choice[row, mask])
        if first >= 0:
            taken[int(served[first])] += 1
            mask |= int(self.bits[first])
        while (choice := int(plain[mask])) >= 0:
            taken[int(served[choice])] += 1
            mask |= int(self.bits[choice])
        return tuple(sorted(taken.items()))

    def needs(self, need: Floats, row: int = 0) -> Floats:
        """float64[masks, r]: what the optimal fillings take, a class taking ``need`` [classes, r]."""
        found = np.zeros((self.values.shape[1], need.shape[1]))
        served = need[self.placement_class[row]]
        plain = self.plain_choice[row]
        for masks in _levels(int(self.values.shape[1]).bit_length() - 1):
            taking = masks[plain[masks] >= 0]
            first = plain[taking]
            found[taking] = served[first] + found[taking | self.bits[first]]
        media = np.flatnonzero(self.media_choice[row] >= 0)
        first = self.media_choice[row, media]
        found[media] = served[first] + found[media | self.bits[first]]
        return found


@lru_cache(maxsize=8)
def _levels(units: int) -> tuple[Ints, ...]:
    """Masks grouped by the number of occupied units, fullest first; a placement always leads to an
    earlier group.
    """
    masks = np.arange(1 << units, dtype=np.int64)
    occupied = np.bitwise_count(masks)
    return tuple(masks[occupied == level] for level in range(units, -1, -1))


def gpu_tables(offer: ModelClasses, price: Floats) -> GpuTables:
    """Solve V for every mask of one model. ``price`` [b, classes]: money per hour and request, on this
    model.
    """
    geometry, batch = offer.geometry, len(price)
    best = np.full((batch, len(offer.bits)), -1, dtype=np.int64)
    worth = np.zeros((batch, len(offer.bits)))
    for members, rows in offer.offers:
        winner = price[:, members].argmax(axis=1)
        best[:, rows] = members[winner][:, None]
        worth[:, rows] = price[np.arange(batch), members[winner]][:, None]
    values = np.zeros((batch, geometry.n_states))
    plain_choice = np.full((batch, geometry.n_states), -1, dtype=np.int64)
    useful = (worth > _WORTHLESS).any(axis=0)
    plain, media = np.flatnonzero(useful & ~offer.media), np.flatnonzero(useful & offer.media)
    gain = np.where(worth > _WORTHLESS, worth, _NEVER)
    if plain.size:
        bits, fits = offer.bits[plain, None], geometry.fits[plain]
        for masks in _levels(offer.model.units):
            after = np.where(fits[:, masks], gain[:, plain, None] + values[:, masks | bits], _NEVER)
            winner = after.argmax(axis=1)
            found = np.take_along_axis(after, winner[:, None], axis=1)[:, 0]
            values[:, masks] = np.maximum(found, 0.0)
            plain_choice[:, masks] = np.where(found > 0.0, plain[winner], -1)
    total = values
    media_choice = np.full((batch, geometry.n_states), -1, dtype=np.int64)
    if media.size:
        masks = np.arange(geometry.n_states, dtype=np.int64)
        with_media = gain[:, media, None] + values[:, masks | offer.bits[media, None]]
        after = np.where(geometry.fits[media], with_media, _NEVER)
        winner = after.argmax(axis=1)
        found = np.take_along_axis(after, winner[:, None], axis=1)[:, 0]
        media_choice = np.where(found > values + _WORTHLESS, media[winner], -1)
        total = np.maximum(values, found)
    return GpuTables(total, plain_choice, media_choice, best, offer.bits)


@dataclass(frozen=True, slots=True)
class NodeTables:
    """W [b, free GPUs]; ``step`` is the size taken first (0: nothing), ``step_class`` -1 when it is MIG on
    one GPU, cut as ``gpu`` says.
    """

    values: Floats
    step: Ints
    step_class: Ints
    gpu: GpuTables | None

    def filling(self, free: int, row: int = 0) -> Filling:
        """The optimal filling of ``free`` entirely free GPUs of one node, under price row ``row``."""
        taken: Counter[int] = Counter()
        while free > 0 and self.step[row, free] > 0:
            if self.step_class[row, free] >= 0:
                taken[int(self.step_class[row, free])] += 1
            elif self.gpu is not None:
                taken.update(dict(self.gpu.filling(0, row)))
            free -= int(self.step[row, free])
        return tuple(sorted(taken.items()))

    def needs(self, need: Floats, row: int = 0) -> Floats:
        """float64[free GPUs, r]: what the optimal fillings take, a class taking ``need`` [classes, r]."""
        found = np.zeros((self.values.shape[1], need.shape[1]))
        opened = self.gpu.needs(need, row)[0] if self.gpu is not None else np.zeros(need.shape[1])
        for free in range(1, len(found)):
            step, taken = int(self.step[row, free]), int(self.step_class[row, free])
            if step:
                found[free] = found[free - step] + (need[taken] if taken >= 0 else opened)
        return found


def node_tables(offer: ModelClasses, price: Floats, gpu: GpuTables | None, max_gpus: int) -> NodeTables:
    """Solve W(0..max_gpus) for one model; ``gpu`` None means its GPUs cannot be cut into MIG instances.
    ``price`` [b, classes].
    """
    batch = len(price)
    options: list[tuple[int, Floats, Ints]] = []
    for gpus, found in offer.by_gpus.items():
        members = np.array(found, dtype=np.int64)
        winner = members[price[:, members].argmax(axis=1)]
        options.append((gpus, price[np.arange(batch), winner], winner))
    if gpu is not None:
        options.append((1, gpu.values[:, 0], np.full(batch, -1, dtype=np.int64)))
    values = np.zeros((batch, max_gpus + 1))
    step, step_class = np.zeros_like(values, dtype=np.int64), np.full(values.shape, -1, dtype=np.int64)
    for free in range(1, max_gpus + 1):
        # A GPU may stay idle: then the node is worth what one GPU less is, and takes the same step.
        values[:, free] = values[:, free - 1]
        step[:, free], step_class[:, free] = step[:, free - 1], step_class[:, free - 1]
        for gpus, gain, index in options:
            if gpus <= free:
                after = gain + values[:, free - gpus]
                better = (gain > _WORTHLESS) & (after > values[:, free] + _WORTHLESS)
                values[better, free] = after[better]
                step[better, free], step_class[better, free] = gpus, index[better]
    return NodeTables(values, step, step_class, gpu)
