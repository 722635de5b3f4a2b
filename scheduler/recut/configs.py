"""Named MIG configurations of NVIDIA's MIG manager and what a node offers under each.

The GPU Operator's mig-manager applies the configuration that the node label ``nvidia.com/mig.config`` names,
to all GPUs of the node. Without a list in the policy, those that mig-parted ships are known: ``all-disabled``
(MIG off), ``all-<profile>`` (as many as fit) and ``all-balanced`` (two 1g, one 2g, one 3g; on four-slice
cards two 1g and one 2g). The counts are those of the catalogue. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cluster.policy import MigConfig
from dra.catalog import GpuModel, MigProfile

WHOLE = "whole"
"""The class of a whole GPU, beside the profiles."""
DISABLED = "all-disabled"


@dataclass(frozen=True, slots=True)
class Cut:
    """A configuration for one model. ``offers``: instances by profile on one GPU, or ``WHOLE``: 1."""

    name: str
    offers: tuple[tuple[str, int], ...]


def cuts_for(model: GpuModel, configs: Sequence[MigConfig]) -> tuple[Cut, ...]:
    """The configurations that a node of this model may be given, in name order."""
    if not configs:
        return _shipped(model)
    found = {}
    for config in configs:
        if config.model not in (None, model.name):
            continue
        offers = config.devices or {WHOLE: 1}
        if config.devices and not _fits(model, config.devices):
            continue
        found[config.name] = Cut(config.name, tuple(sorted(offers.items())))
    return tuple(found[name] for name in sorted(found))


@lru_cache(maxsize=64)
def _shipped(model: GpuModel) -> tuple[Cut, ...]:
    plain = [profile for profile in model.profiles if profile.plain]
    if not plain:
        return ()
    cuts = [Cut(DISABLED, ((WHOLE, 1),))]
    cuts += [Cut(f"all-{one.name}", ((one.name, one.max_instances),)) for one in plain]
    smallest = {slices: _first(plain, slices) for slices in (1, 2, 3)}
    mixed = {1: 2, 2: 1, 3: 1} if model.compute_slices >= 7 else {1: 2, 2: 1}
    if all(smallest[slices] for slices in mixed):
        offers = tuple(sorted((smallest[slices], count) for slices, count in mixed.items()))
        cuts.append(Cut("all-balanced", offers))
    return tuple(sorted(cuts, key=lambda cut: cut.name))


def _first(plain: Sequence[MigProfile], slices: int) -> str:
    """The profile with so many compute slices and the least memory."""
    fitting = sorted((one for one in plain if one.compute_slices == slices), key=lambda one: one.memory_gb)
    return fitting[0].name if fitting else ""


def _fits(model: GpuModel, devices: Mapping[str, int]) -> bool:
    units = 0
    for name, count in devices.items():
        profile = model.profile(name)
        if profile is None or count > profile.max_instances:
            return False
        units += profile.size * count
    return units <= model.units
