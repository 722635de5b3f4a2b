"""Where MIG instances may stand on one GPU, and which of the free places does the least harm.

The rules in plain Python, for the node's process, which looks at a handful of GPUs and has to stay small.
``dra.mig`` tables the same for every state of a GPU at once and says more about the model.

Harm of a placement = Σ over profiles p of weight_p × size_p × number of legal starts of p that were free
before and are not after. The least-harm order sorts by it; ties go to high starts, which keeps the low half
(the only home of 4g) whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from dra.catalog import GpuModel

WHOLE = "whole"
"""Name of the pseudo-profile that stands for all units of a GPU."""


@dataclass(frozen=True, slots=True)
class Placement:
    """An instance of ``profile`` on units [start, start + size)."""

    profile: str
    start: int
    size: int

    @property
    def bits(self) -> int:
        """Bitmask of the units it takes."""
        return ((1 << self.size) - 1) << self.start


@lru_cache(maxsize=256)
def placements(model: GpuModel) -> tuple[Placement, ...]:
    """All legal placements, in the catalogue's profile order, then by start."""
    return tuple(
        Placement(profile.name, start, profile.size) for profile in model.profiles for start in profile.starts
    )


@lru_cache(maxsize=256)
def plain_placements(model: GpuModel) -> tuple[Placement, ...]:
    """Those of profiles without suffix, in the same order."""
    plain = {profile.name for profile in model.profiles if profile.plain}
    return tuple(p for p in placements(model) if p.profile in plain)


def harm(model: GpuModel, mask: int, placement: Placement, weights: Mapping[str, float]) -> float:
    """Weighted units of placements that ``placement`` makes impossible on a GPU with ``mask`` occupied.

    ``weights``: profile name (or ``WHOLE``) to weight, 0 where absent; an empty mapping means 1 for each
    plain profile. The placement itself counts too, so the result compares placements of one profile, and of
    several.
    """
    after = mask | placement.bits
    total = 0.0
    for other in placements(model) if weights else plain_placements(model):
        weight = weights.get(other.profile, 0.0) if weights else 1.0
        if weight and not other.bits & mask and other.bits & after:
            total += weight * other.size
    if mask == 0:
        total += weights.get(WHOLE, 0.0) * model.units
    return total


def least_harm_order(model: GpuModel, mask: int, weights: Mapping[str, float]) -> tuple[Placement, ...]:
    """All placements: those that fit by (harm, then high start), then the rest in the order for an empty
    GPU.
    """

    def key(placement: Placement, occupied: int) -> tuple[float, int]:
        # Rounded: sums in another order must not turn a tie into an order.
        return round(harm(model, occupied, placement, weights), 9), -placement.start

    every = placements(model)
    fitting = sorted((p for p in every if not p.bits & mask), key=lambda p: key(p, mask))
    others = sorted((p for p in every if p.bits & mask), key=lambda p: key(p, 0))
    return (*fitting, *others)
