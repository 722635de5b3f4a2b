"""What may be placed on one card: the states of a card and the placements that lead from one to the next.

A state is a whole number, 0 the empty card. A placement adds its own number, its end takes it away again, so
walking costs one addition. On the memory grid, the hardware's own, the number is the bitmask of occupied
memory units and a placement's number are its bits (``dra.mig``). The simulator builds other grids of the same
shape.

Only plain profiles belong here: of +me, +gfx and -me a state cannot show which engines are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from dra.catalog import GpuModel
from dra.mig import geometry

Steps = tuple[tuple[int, int], ...]  # (start, number added), by start
Layout = tuple[tuple[int, int], ...]  # (profile index, number), sorted


@dataclass(frozen=True, slots=True, eq=False)
class CardSpace:
    """States of one card under a list of profiles; compared by identity.

    ``steps[profile][state]``: the legal placements of that profile from that state, empty where none fits.
    ``compute_slices`` and ``cells``: what one instance uses of compute, and of the grid (memory units, or
    slots). ``free[state]``: free cells. ``packable[state]``: most free cells that further instances can
    cover. ``states``: those that some set of instances leads to, ascending.
    """

    grid: str
    model: GpuModel
    profiles: tuple[str, ...]
    compute_slices: tuple[int, ...]
    cells: tuple[int, ...]
    card_cells: int
    n_states: int
    states: tuple[int, ...]
    steps: tuple[tuple[Steps, ...], ...]
    free: tuple[int, ...]
    packable: tuple[int, ...]

    def stranded(self, state: int) -> int:
        """Free cells that no set of these profiles can cover."""
        return self.free[state] - self.packable[state]


@lru_cache(maxsize=64)
def memory_space(model: GpuModel, profiles: tuple[str, ...]) -> CardSpace:
    """The card as the hardware sees it: occupied memory units.

    Raises ValueError for a profile that the model does not have, or that is not plain.
    """
    shapes = geometry(model)
    chosen = plain_profiles(model, profiles)
    by_profile = [[p for p in shapes.placements if p.profile == name] for name in profiles]

    def steps(profile: int, state: int) -> Steps:
        return tuple((p.start, p.bits) for p in by_profile[profile] if not p.bits & state)

    return build_space(
        grid="memory",
        model=model,
        profiles=profiles,
        compute_slices=tuple(c for c, _ in chosen),
        cells=tuple(size for _, size in chosen),
        card_cells=model.units,
        n_states=shapes.n_states,
        steps=steps,
        free=lambda state: model.units - state.bit_count(),
    )


def plain_profiles(model: GpuModel, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """(compute slices, memory units) of each named profile. Raises ValueError as ``memory_space`` does."""
    found = []
    for name in names:
        profile = model.profile(name)
        if profile is None or not profile.plain:
            known = ", ".join(p.name for p in model.profiles if p.plain) or "none: its placements are unknown"
            raise ValueError(f"{model.name}: got profile {name!r}, expected any of {known}")
        found.append((profile.compute_slices, profile.size))
    return found


def build_space(
    *,
    grid: str,
    model: GpuModel,
    profiles: tuple[str, ...],
    compute_slices: tuple[int, ...],
    cells: tuple[int, ...],
    card_cells: int,
    n_states: int,
    steps: Callable[[int, int], Steps],
    free: Callable[[int], int],
) -> CardSpace:
    """Walk from the empty card and fill the tables. ``steps(profile, state)`` lists the legal placements."""
    table: list[list[Steps]] = [[()] * n_states for _ in profiles]
    reached, todo = {0}, [0]
    while todo:
        state = todo.pop()
        for profile in range(len(profiles)):
            found = table[profile][state] = steps(profile, state)
            for _, number in found:
                if state + number not in reached:
                    reached.add(state + number)
                    todo.append(state + number)
    packable = [0] * n_states
    for state in sorted(reached, reverse=True):
        packable[state] = max(
            (
                cells[profile] + packable[state + number]
                for profile in range(len(profiles))
                for _, number in table[profile][state]
            ),
            default=0,
        )
    return CardSpace(
        grid=grid,
        model=model,
        profiles=profiles,
        compute_slices=compute_slices,
        cells=cells,
        card_cells=card_cells,
        n_states=n_states,
        states=tuple(sorted(reached)),
        steps=tuple(tuple(row) for row in table),
        free=tuple(free(state) for state in range(n_states)),
        packable=tuple(packable),
    )


def layouts(space: CardSpace) -> list[Layout]:
    """Every set of instances one card can hold, the empty one first."""
    found: dict[Layout, None] = {(): None}
    todo: list[Layout] = [()]
    while todo:
        layout = todo.pop()
        state = sum(number for _, number in layout)
        for profile in range(len(space.profiles)):
            for _, number in space.steps[profile][state]:
                longer = tuple(sorted((*layout, (profile, number))))
                if longer not in found:
                    found[longer] = None
                    todo.append(longer)
    return list(found)
