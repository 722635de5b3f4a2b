"""In which order first-fit meets the GPUs of a node, profile by profile.

A driver may publish the placements of one profile on several GPUs together (``dra.node_order``), so that for
each profile another GPU comes first. ``Turns`` are kept as one whole number a GPU for tables over the fleet
(``packed``): four bits a profile, the GPU's rank for it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RANK_BITS = 4
MOST_PROFILES = 64 // RANK_BITS - 1
"""So many profiles of a model have ranks of their own in a signed number of 64 bits."""

Turns = Mapping[str, tuple[int, ...]]
"""By profile the positions of all GPUs that have placements of it, first met first; those that are met in the
order of their positions are left out."""


def turns(first_at: Sequence[Mapping[str, int]]) -> dict[str, tuple[int, ...]]:
    """``first_at``: of each GPU, the place of its first placement of each profile among the node's
    devices.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for position, by_profile in enumerate(first_at):
        for profile, place in by_profile.items():
            places.setdefault(profile, []).append((place, position))
    return {
        profile: tuple(position for _, position in sorted(found))
        for profile, found in places.items()
        if found != sorted(found)
    }


def in_turn(order: Turns, profile: str | None, gpus: int) -> Sequence[int]:
    """The positions of ``gpus`` GPUs in the order in which first-fit meets them for a profile."""
    return range(gpus) if profile is None else order.get(profile, range(gpus))


def packed(order: Turns, profiles: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """One number a GPU: bits 4 s to 4 s + 3 are its rank for profile s of its model. ``profiles``: those of
    each GPU's model. Without turns every number is 0, and equal ranks count in the order of positions.
    """
    found = [0] * len(profiles)
    for slot in range(MOST_PROFILES if order else 0):
        for position, names in enumerate(profiles):
            if slot < len(names):
                where = order.get(names[slot])
                rank = position if where is None else where.index(position) if position in where else position
                found[position] |= min(rank, (1 << RANK_BITS) - 1) << RANK_BITS * slot
    return tuple(found)


def unpacked(numbers: Sequence[int], profiles: Sequence[Sequence[str]]) -> dict[str, tuple[int, ...]]:
    """The turns that ``packed`` made of."""
    ranks: dict[str, list[tuple[int, int]]] = {}
    for position, (number, names) in enumerate(zip(numbers, profiles, strict=True)):
        for slot, name in enumerate(names[:MOST_PROFILES]):
            rank = number >> RANK_BITS * slot & (1 << RANK_BITS) - 1
            ranks.setdefault(name, []).append((rank, position))
    return {
        name: tuple(position for _, position in sorted(found))
        for name, found in ranks.items()
        if any(numbers) and found != sorted(found)
    }
