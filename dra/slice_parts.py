"""The parts of a ResourceSlice: device names, counters, partitions, and the pool around them.

What ``dra.slices`` (from an inventory) and ``dra.driver`` (from the cards themselves) have in common. Plain
dictionaries, ready for JSON. No numpy: the node's process has to stay small.

Counters of a partitionable GPU: one per memory slice (unit) and one per engine kind whose use is known for
all profiles; capacity is the largest use by any profile. The whole GPU consumes every counter.

Limits (k8s.io/api/resource/v1): 64 devices a slice with counters, 8 sets a slice, 32 counters a set, 2
consumptions a device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from dra.catalog import GpuModel, MigProfile
from dra.placement import Placement
from dra.quantity import mebibytes

SLICEWISE_DRIVER = "gpu.slicewise.io"

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


def name_of(index: int, placement: Placement | None = None) -> str:
    """Our name of a device: "gpu-0", "gpu-0-1g10gb-6". A suffix keeps its sign in words, as names have
    none.
    """
    if placement is None:
        return f"gpu-{index}"
    profile = placement.profile.replace("-me", "-nome").replace("+", "-")
    return f"gpu-{index}-{profile.replace('.all', '-all').replace('.', '')}-{placement.start}"


@lru_cache(maxsize=256)
def counter_totals(model: GpuModel) -> Mapping[str, int]:
    """Counters of one GPU without its memory slices: engine kinds known for every profile, largest use
    each.
    """
    uses = [engines(profile) for profile in model.profiles]
    known = [name for name in _ENGINES if uses and all(name in use for use in uses)]
    return MappingProxyType({name: max(use[name] for use in uses) for name in known})


def engines(profile: MigProfile) -> dict[str, int]:
    """What an instance of the profile takes, by counter name, as far as known."""
    return dict(profile.capacities)


def counter_set(model: GpuModel, name: str, *, zeros: bool) -> Json:
    """The counter set of one GPU. ``zeros``: whether counters of value 0 are written."""
    return {"name": name, "counters": whole_use(model, zeros=zeros)}


def whole_use(model: GpuModel, *, zeros: bool) -> Json:
    """What the whole GPU takes: everything."""
    return _spelled(counter_totals(model), zeros=zeros) | unit_counters(0, model.units)


def partition_use(model: GpuModel, placement: Placement, *, zeros: bool) -> Json:
    """What an instance at ``placement`` takes. Raises ValueError for a profile that the model has not."""
    totals = counter_totals(model)
    own = {n: use for n, use in engines(profile_of(model, placement)).items() if n in totals}
    return _spelled(own, zeros=zeros) | unit_counters(placement.start, placement.size)


def unit_counters(start: int, size: int) -> Json:
    """One of each memory slice in [start, start + size)."""
    return {f"memory-slice-{unit}": {"value": "1"} for unit in range(start, start + size)}


def _spelled(uses: Mapping[str, int], *, zeros: bool) -> Json:
    counters: Json = {}
    for name, use in uses.items():
        if use or zeros:
            plain = name != "memory_mib"
            counters[name if plain else "memory"] = {"value": str(use) if plain else mebibytes(use)}
    return counters


def profile_of(model: GpuModel, placement: Placement) -> MigProfile:
    """The profile of a placement. Raises ValueError when the model does not have it."""
    profile = model.profile(placement.profile)
    if profile is None:
        raise ValueError(
            f"GPU model {model.name} has no profile {placement.profile}; it has "
            f"{', '.join(p.name for p in model.profiles) or 'none'}"
        )
    return profile


def memory_mib(profile: MigProfile) -> int:
    """Memory of one instance, as the card reports it or, not told, by the profile's name."""
    return engines(profile).get("memory_mib", profile.memory_gb * 1024)


def slice_specs(
    bodies: Sequence[list[Json]], counters: Sequence[Json | None], version: Version
) -> list[Json]:
    """The devices of each GPU and their counter sets as the contents of slices, counters first.

    ``bodies`` and ``counters``: by GPU; None for one without counters. From 1.35 on counters are in slices of
    their own, at most 8 sets each; in 1.34 in the slice of the devices that use them.
    """
    if version == "1.34":
        return [
            {**({"sharedCounters": [own]} if own is not None else {}), "devices": devices}
            for devices, own in zip(bodies, counters, strict=True)
        ]
    sets = [own for own in counters if own is not None]
    firsts = range(0, len(sets), MOST_COUNTER_SETS)
    return [{"sharedCounters": sets[first : first + MOST_COUNTER_SETS]} for first in firsts] + [
        {"devices": devices} for devices in bodies
    ]


def slice_name(index: int, driver: str, node: str) -> str:
    """Five hex digits first: the in-tree allocator reads slices in name order."""
    name = f"{index:05x}-{driver}-{node}"
    if len(name) <= _MOST_NAME:
        return name
    digest = hashlib.sha256(node.encode()).hexdigest()[:16]
    return f"{name[: _MOST_NAME - 17]}-{digest}"
