"""The devices of a node's slices, sorted out by GPU.

A partition is recognised by the ``memory-slice-N`` counters it consumes, which both drivers use. Devices of
another kind (VFIO, compute domains, shares of a GPU) are left out. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from dra.placement import Placement
from dra.resource_api import Device
from dra.slice_parts import SLICEWISE_DRIVER

UNIT = re.compile(r"memory-slice-(\d+)|(?:.*/)?memorySlice(\d+)")
_INDEX = re.compile(r"gpu-(\d+)(?:-|$)")


@dataclass(slots=True)
class Group:
    """Devices of one GPU while slices are read, in published order. ``whole_at``, ``first_at``: the place
    among the node's devices of the whole GPU, and of the first placement of each profile.
    """

    whole: Device | None
    parts: list[tuple[Device, Placement]]
    units: int
    counted: bool
    whole_at: int = 0
    first_at: dict[str, int] = field(default_factory=dict)


def groups(devices: Iterable[Device], driver: str, units: Mapping[str, int]) -> dict[str, Group]:
    found: dict[str, Group] = {}
    for place, device in enumerate(devices):
        kind = text(device, driver, "type")
        counted = bool(device.consumes_counters)
        key = (
            device.consumes_counters[0].counter_set
            if counted
            else text(device, driver, "parentUUID") or text(device, driver, "uuid") or device.name
        )
        placement = _placement(device, driver) if kind == "mig" else None
        if kind != "gpu" and placement is None:
            continue
        group = found.setdefault(key, Group(None, [], units.get(key, 0), counted))
        if placement is None:
            group.whole, group.whole_at = device, place
        else:
            group.parts.append((device, placement))
            group.first_at.setdefault(placement.profile, place)
            group.units = max(group.units, placement.start + placement.size)
    return found


def _placement(device: Device, driver: str) -> Placement | None:
    """Where a partition lies, by the memory slices it consumes or, made beforehand, has."""
    profile = text(device, driver, "profile")
    if len(device.consumes_counters) == 1:
        return _placement_of(profile, tuple(device.consumes_counters[0].counters))
    names = [name for consumption in device.consumes_counters for name in consumption.counters]
    return _placement_of(profile, tuple(names or device.capacity))


@lru_cache(maxsize=16384)
def _placement_of(profile: str, names: tuple[str, ...]) -> Placement | None:
    """One object for equal placements, as a fleet has a million; None when the memory slices are not in one
    run.
    """
    units = sorted(int(match.group(1) or match.group(2)) for name in names if (match := UNIT.fullmatch(name)))
    if not profile or not units or units != list(range(units[0], units[0] + len(units))):
        return None
    return Placement(profile, units[0], len(units))


def in_order(groups: Iterable[Group], driver: str) -> list[Group]:
    """GPUs as first-fit meets them whole, those of our driver by index: where their MIG placements stand
    changes with what is occupied.
    """
    found = list(groups)
    if driver != SLICEWISE_DRIVER:
        return found
    found.sort(key=lambda group: device_index((group.whole or group.parts[0][0]).name, 0))
    whole_at = [group.whole_at for group in found if group.whole is not None]
    if whole_at != sorted(whole_at):
        found.sort(key=lambda group: (group.whole is None, group.whole_at))
    return found


def device_index(name: str, otherwise: int) -> int:
    """The GPU's index as its device's name has it."""
    found = _INDEX.match(name)
    return int(found.group(1)) if found else otherwise


def text(device: Device, driver: str, name: str) -> str:
    """A string attribute in the driver's own domain, "" when absent or of another type."""
    attribute = device.attributes.get(name)
    if attribute is None:
        attribute = device.attributes.get(f"{driver}/{name}")
    return (attribute.string or "") if attribute is not None else ""


def number(device: Device, driver: str, name: str) -> int | None:
    """A whole number among the attributes in the driver's own domain, None when absent or of another type."""
    attribute = device.attributes.get(name) or device.attributes.get(f"{driver}/{name}")
    return attribute.int_ if attribute is not None else None
