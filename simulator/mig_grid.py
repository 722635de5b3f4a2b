"""The two grids on which MIG studies count, for one model and the profiles of a mix.

- ``memory``: the hardware's own (``scheduler.packing.mig_space``): a 7-slice card has 8 memory units, an
  instance takes an interval of them. 3g@4 takes units 4 to 7.
- ``compute``: MIGBench's. A card has as many slots as compute slices; an instance takes one slot a slice from
  its start on, and its memory counts as an amount only, with no place. 3g@4 takes slots 4 to 6, 3g@0 leaves
  slot 3 to others, and two 3g leave it without memory.

A profile's short name ("3g") is the smallest plain profile of that name on the model.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from dra.catalog import GpuModel, models
from scheduler.packing.mig_space import CardSpace, Steps, build_space, memory_space, plain_profiles

Grid = Literal["memory", "compute"]
GRIDS: tuple[Grid, ...] = ("memory", "compute")


class StudyRefused(Exception):
    """What was asked for cannot be simulated; the message says what came and what was expected."""


def mig_model(name: str) -> GpuModel:
    """The model of that catalogue name. Raises StudyRefused where it has no known MIG placements."""
    model = models().get(name)
    if model is None or not model.profiles:
        known = ", ".join(name for name, found in models().items() if found.profiles)
        what = "no such model" if model is None else "its MIG placements are unknown"
        raise StudyRefused(f"--model: got {name!r}: {what}; expected any of {known}")
    return model


def full_name(model: GpuModel, name: str) -> str:
    """The model's name of a profile: "1g" becomes "1g.10gb". Raises StudyRefused when there is none."""
    plain = [profile for profile in model.profiles if profile.plain]
    exact = [profile for profile in plain if profile.name == name]
    short = sorted(
        (profile for profile in plain if profile.name.split(".")[0] == name), key=lambda p: p.memory_gb
    )
    if not exact and not short:
        known = ", ".join(profile.name for profile in plain)
        raise StudyRefused(f"--mix: got profile {name!r}, {model.name} has {known}")
    return (exact or short)[0].name


def card_space(model: GpuModel, profiles: tuple[str, ...], grid: Grid) -> CardSpace:
    """The states of one card on that grid."""
    return memory_space(model, profiles) if grid == "memory" else _compute_space(model, profiles)


@lru_cache(maxsize=64)
def _compute_space(model: GpuModel, profiles: tuple[str, ...]) -> CardSpace:
    shapes = plain_profiles(model, profiles)
    slots, units = model.compute_slices, model.units
    occupied = (1 << slots) - 1
    # Starts are given in memory units; on an RTX PRO 6000 three of them make a slot.
    units_a_slot = max(1, units // slots)

    def steps(profile: int, state: int) -> Steps:
        slices, size = shapes[profile]
        if (state >> slots) + size > units:
            return ()
        found = model.profile(profiles[profile])
        starts = [start // units_a_slot for start in (found.starts if found is not None else ())]
        return tuple(
            (start, (((1 << slices) - 1) << start) + (size << slots))
            for start in starts
            if start + slices <= slots and not state & occupied & ((1 << slices) - 1) << start
        )

    return build_space(
        grid="compute",
        model=model,
        profiles=profiles,
        compute_slices=tuple(slices for slices, _ in shapes),
        cells=tuple(slices for slices, _ in shapes),
        card_cells=slots,
        n_states=(units + 1) << slots,
        steps=steps,
        free=lambda state: slots - (state & occupied).bit_count(),
    )
