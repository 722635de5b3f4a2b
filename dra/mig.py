"""How MIG instances fit on one GPU: every question answered from tables over the occupied memory units.

A state is the bitmask of occupied units of the model's memory grid (4, 8 or 12 units, so at most 4,096
states). An instance of a profile takes ``size`` units from one of its legal starts; instances fit together
when their units are disjoint (NVIDIA MIG user guide; NVML refuses overlapping memory slices). The compute
slices never bind first on the known models, but unit 7 of a 7-slice GPU is peculiar: only the double-memory
1g, 3g@4 and 7g reach it.

The harm of a placement and the least-harm order are those of ``dra.placement``.

Not decided here: the one-media-extension-per-GPU rule and engine counts of +me, +gfx and -me profiles. A
mask cannot show them; published counters carry them (``dra.slices``) and ``dra.allocator`` checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dra.catalog import GpuModel
from dra.placement import WHOLE, Placement, harm, least_harm_order, placements, plain_placements

__all__ = ["WHOLE", "Geometry", "Placement", "geometry"]

_MOST_UNITS = 16


@dataclass(frozen=True, eq=False)
class Geometry:
    """Tables of one model. Made by ``geometry``; compared by identity.

    ``placements``: all legal placements, in the catalogue's profile order, then by start.
    ``n_states``: 2 ** units. ``reachable``: bool[n_states], masks that some set of placements occupies
    exactly.
    ``fits``: bool[len(placements), n_states], indexed by the OCCUPIED mask.
    """

    model: GpuModel
    placements: tuple[Placement, ...]
    n_states: int
    reachable: NDArray[np.bool_]
    fits: NDArray[np.bool_]
    _plain: tuple[Placement, ...]
    _stranded: NDArray[np.int8]

    @property
    def full_mask(self) -> int:
        """The mask with every unit occupied."""
        return self.n_states - 1

    def placement(self, profile: str, start: int) -> Placement | None:
        """The legal placement of a profile at a start, or None."""
        for candidate in self.placements:
            if candidate.start == start and candidate.profile == profile:
                return candidate
        return None

    def free_starts(self, profile: str, mask: int) -> tuple[int, ...]:
        """Legal starts of ``profile`` that are free when ``mask`` is occupied; empty for an unknown
        profile.
        """
        if profile == WHOLE:
            return (0,) if mask == 0 else ()
        return tuple(p.start for p in self.placements if p.profile == profile and not p.bits & mask)

    def lost(self, mask: int, placement: Placement, weights: Mapping[str, float]) -> float:
        """Weighted units of placements that ``placement`` makes impossible (``dra.placement.harm``)."""
        return harm(self.model, mask, placement, weights)

    def least_harm_order(self, mask: int, weights: Mapping[str, float]) -> tuple[Placement, ...]:
        """All placements: those that fit by (harm, then high start), then the rest in the order for an empty
        GPU.
        """
        return least_harm_order(self.model, mask, weights)

    def first_start(self, order: tuple[Placement, ...], profile: str) -> NDArray[np.int16]:
        """int16[n_states]: the start that first-fit over ``order`` takes for each occupied mask, -1 = none
        fits.

        ``order`` is the published order of one GPU's placements. The result is cached and read-only.
        """
        return _first_starts(self.model, order, profile)

    def maximal_layouts(self) -> tuple[tuple[Placement, ...], ...]:
        """Sets of plain placements to which no further plain placement can be added, each sorted by start."""
        return tuple(
            layout
            for layout in _plain_layouts(self.model)
            if not any(self._fits_in(p, layout) for p in self._plain)
        )

    def state_count(self) -> int:
        """Number of different sets of disjoint plain placements, the empty one included."""
        return len(_plain_layouts(self.model))

    def stranded_units(self, mask: int) -> int:
        """Free units that no set of plain profiles can cover when ``mask`` is occupied."""
        return int(self._stranded[mask])

    @staticmethod
    def _fits_in(placement: Placement, layout: tuple[Placement, ...]) -> bool:
        return not any(placement.bits & other.bits for other in layout)


@lru_cache(maxsize=256)
def geometry(model: GpuModel) -> Geometry:
    """The tables of a model, computed once.

    Raises ValueError when the model has more than 16 units: the tables would not be tables any more.
    """
    if not 1 <= model.units <= _MOST_UNITS:
        raise ValueError(f"GPU model {model.name}: {model.units} memory units, expected 1 to {_MOST_UNITS}")
    n_states = 1 << model.units
    legal, plain = placements(model), plain_placements(model)
    masks = np.arange(n_states, dtype=np.int64)
    fits = np.array([(masks & p.bits) == 0 for p in legal], dtype=np.bool_).reshape(len(legal), n_states)
    reachable = np.zeros(n_states, dtype=np.bool_)
    # A placement only adds bits, so going up through the masks meets every predecessor before its successors.
    reachable[0] = True
    for mask in range(n_states):
        if reachable[mask]:
            for p in legal:
                if not p.bits & mask:
                    reachable[mask | p.bits] = True
    reachable[n_states - 1] = True  # a whole GPU occupies every unit
    fits.setflags(write=False)
    reachable.setflags(write=False)
    return Geometry(model, legal, n_states, reachable, fits, plain, _stranded(n_states, plain))


@lru_cache(maxsize=65536)
def _first_starts(model: GpuModel, order: tuple[Placement, ...], profile: str) -> NDArray[np.int16]:
    n_states = 1 << model.units
    masks = np.arange(n_states, dtype=np.int64)
    starts = np.full(n_states, -1, dtype=np.int16)
    for placement in reversed(order):
        if placement.profile == profile:
            starts[(masks & placement.bits) == 0] = placement.start
    if profile == WHOLE:
        starts[0] = 0
    starts.setflags(write=False)
    return starts


@lru_cache(maxsize=64)
def _plain_layouts(model: GpuModel) -> tuple[tuple[Placement, ...], ...]:
    """Every set of disjoint plain placements, each sorted by start."""
    plain = sorted(
        (Placement(p.name, start, p.size) for p in model.profiles if p.plain for start in p.starts),
        key=lambda p: (p.start, p.size, p.profile),
    )
    found: list[tuple[Placement, ...]] = []

    def extend(layout: tuple[Placement, ...], occupied: int, position: int) -> None:
        found.append(layout)
        for index in range(position, len(plain)):
            if not plain[index].bits & occupied:
                extend((*layout, plain[index]), occupied | plain[index].bits, index + 1)

    extend((), 0, 0)
    return tuple(found)


def _stranded(n_states: int, plain: tuple[Placement, ...]) -> NDArray[np.int8]:
    """int8[n_states]: free units minus the most that disjoint plain placements can cover."""
    stranded = np.zeros(n_states, dtype=np.int8)
    covered = np.zeros(n_states, dtype=np.int8)
    if plain:
        for mask in range(n_states - 1, -1, -1):
            best = 0
            for p in plain:
                if not p.bits & mask:
                    best = max(best, p.size + int(covered[mask | p.bits]))
            covered[mask] = best
            stranded[mask] = n_states.bit_length() - 1 - mask.bit_count() - best
    stranded.setflags(write=False)
    return stranded
