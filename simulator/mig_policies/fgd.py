"""FGD on MIG's grid: the placement after which the expected unusable space grows least (Weng et al., ATC'23).

    F(state) = Σ_p w_p × (free cells, if p does not fit; else free cells outside every free window of p)

w_p is the share of profile p in the mix, which FGD takes as known. Of equals the lowest start and first card.
"""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.packing.mig_space import CardSpace
from simulator.mig_policies.ranked import Key, Ranked


class Fgd(Ranked):
    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__(self._growth)
        self._weights = [weight / sum(weights) for weight in weights]
        self._known: dict[int, float] = {}

    def _growth(self, space: CardSpace, profile: int, state: int, start: int, after: int) -> Key:
        del profile
        return (round(self._fragments(space, after) - self._fragments(space, state), 9), start)

    def _fragments(self, space: CardSpace, state: int) -> float:
        known = self._known.get(state)
        if known is None:
            cells = (1 << space.card_cells) - 1
            known = 0.0
            for weight, steps in zip(self._weights, space.steps, strict=True):
                covered = 0
                for _, number in steps[state]:
                    covered |= number & cells
                known += weight * (space.free[state] - covered.bit_count())
            self._known[state] = known
        return known
