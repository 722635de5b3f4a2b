"""Policies that order (card state, placement) alone: the smallest key wins, of equals the first card.

Two cards in the same state are then the same, so a key is computed once for each state and profile.
"""

from __future__ import annotations

from collections.abc import Callable

from scheduler.packing.mig_space import CardSpace
from simulator.mig_policy import Choice, Fleet

Key = tuple[float, ...]
Order = Callable[[CardSpace, int, int, int, int], Key]
"""(space, profile, state before, start, state after) → key."""


class Ranked:
    """``order`` over all placements of all cards."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._best: dict[tuple[int, int], tuple[Key, int]] = {}

    def choose(self, fleet: Fleet, profile: int) -> Choice | None:
        best: tuple[Key, int, int] | None = None
        for card, state in enumerate(fleet.states):
            found = self._of_state(fleet.space, profile, state)
            if found is not None and (best is None or found[0] < best[0]):
                best = (found[0], card, found[1])
        return best and (best[1], best[2])

    def _of_state(self, space: CardSpace, profile: int, state: int) -> tuple[Key, int] | None:
        steps = space.steps[profile][state]
        if not steps:
            return None
        known = self._best.get((profile, state))
        if known is None:
            known = min(
                (self._order(space, profile, state, start, state + number), number) for start, number in steps
            )
            self._best[profile, state] = known
        return known
