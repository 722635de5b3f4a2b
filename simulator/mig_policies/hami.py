"""HAMi's placement rules (Project-HAMi/HAMi).

- ``hami``: since pull request 2855 (August 2026) of all placements the one after which the longest free run
  of the card is longest; of equals the one after which most legal (profile, start) pairs remain.
- ``hami-2.10``: the release before: the fullest card first, on it 1g and 3g from the high end, others from
  the low end.
- ``fullest-hami``: the fullest card first, on it the new rule. Not HAMi's, but what its rule lacks.

A run and a pair are counted on the grid of the study. HAMi's node score (fullest node first) would act before
the first rule; leaving it out favours that rule.
"""

from __future__ import annotations

from functools import lru_cache

from scheduler.packing.mig_space import CardSpace
from simulator.mig_policies.ranked import Key


def newest(space: CardSpace, profile: int, state: int, start: int, after: int) -> Key:
    """The rule of pull request 2855."""
    del profile, state
    return (-longest_run(space, after), -legal_pairs(space, after), start)


def release_2_10(space: CardSpace, profile: int, state: int, start: int, after: int) -> Key:
    """The rule of release 2.10 on the fullest card."""
    del after
    high = space.profiles[profile][:1] in ("1", "3")
    return (space.free[state], -start if high else start)


def fullest_newest(space: CardSpace, profile: int, state: int, start: int, after: int) -> Key:
    """The fullest card, then the rule of pull request 2855."""
    return (space.free[state], *newest(space, profile, state, start, after))


@lru_cache(maxsize=65536)
def longest_run(space: CardSpace, state: int) -> int:
    """Free cells of the card's longest free run."""
    longest = current = 0
    for cell in range(space.card_cells):
        current = 0 if state >> cell & 1 else current + 1
        longest = max(longest, current)
    return longest


@lru_cache(maxsize=65536)
def legal_pairs(space: CardSpace, state: int) -> int:
    """Placements of the mix's profiles that are still possible."""
    return sum(len(steps[state]) for steps in space.steps)
