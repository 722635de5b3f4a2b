"""A MIG grid that the catalogue does not know, read off the partitions that a driver publishes.

A driver on the node asks the card itself (NVML's possible placements), so what it publishes is better than
any table. From each placement: profile name, start, size. From the profile's name: compute slices and memory
("3g.71gb"). The number of instances is what fits by space, one for profiles with media extensions.

Does not learn power, links or engine counts: those stay the base model's.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from functools import lru_cache

from dra.catalog import GpuModel, MigProfile
from dra.mig import Placement

_PROFILE = re.compile(r"(\d+)g\.(\d+)gb(.*)")
_PROFILE_ID = re.compile(r"-(\d+)-\d+$")


def learned_model(base: GpuModel, units: int, published: Sequence[tuple[str, Placement]]) -> GpuModel:
    """``base`` with the grid of ``published`` (device name, placement); profiles by size, then name.

    Equal cards give the same object, whatever node they are in.
    """
    facts = {
        (placement, int(match.group(1)) if (match := _PROFILE_ID.search(device)) else None)
        for device, placement in published
    }
    return _learned(base, units, frozenset(facts))


@lru_cache(maxsize=256)
def _learned(base: GpuModel, units: int, facts: frozenset[tuple[Placement, int | None]]) -> GpuModel:
    starts: dict[tuple[str, int], set[int]] = {}
    ids: dict[str, int] = {}
    for placement, profile_id in facts:
        starts.setdefault((placement.profile, placement.size), set()).add(placement.start)
        if profile_id is not None:
            ids[placement.profile] = profile_id
    profiles = tuple(
        _profile(name, size, tuple(sorted(begin)), units, ids.get(name))
        for (name, size), begin in sorted(starts.items(), key=lambda item: (item[0][1], item[0][0]))
    )
    return dataclasses.replace(
        base,
        units=units,
        compute_slices=max((profile.compute_slices for profile in profiles), default=base.compute_slices),
        profiles=profiles,
        placement_status="learned from the driver's ResourceSlices",
    )


def _profile(name: str, size: int, starts: tuple[int, ...], units: int, profile_id: int | None) -> MigProfile:
    match = _PROFILE.fullmatch(name)
    compute, memory, suffix = (int(match[1]), int(match[2]), match[3]) if match else (1, 0, "")
    media = "+me" in suffix
    return MigProfile(
        name=name,
        profile_id=profile_id,
        compute_slices=compute,
        memory_gb=memory,
        size=size,
        starts=starts,
        max_instances=1 if media else min(len(starts), units // size),
        media=media,
    )
