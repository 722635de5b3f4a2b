"""Simple orders: ``first-fit`` (first card, lowest start: device names in order), ``ascending`` (fullest
card, lowest start) and ``random`` (any legal placement, each as likely).
"""

from __future__ import annotations

import random

from scheduler.packing.mig_space import CardSpace
from simulator.mig_policies.ranked import Key
from simulator.mig_policy import Choice, Fleet


class FirstFit:
    def choose(self, fleet: Fleet, profile: int) -> Choice | None:
        steps = fleet.space.steps[profile]
        for card, state in enumerate(fleet.states):
            if steps[state]:
                return card, steps[state][0][1]
        return None


class Random:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choose(self, fleet: Fleet, profile: int) -> Choice | None:
        steps = fleet.space.steps[profile]
        legal = [(card, number) for card, state in enumerate(fleet.states) for _, number in steps[state]]
        return self._random.choice(legal) if legal else None


def ascending(space: CardSpace, profile: int, state: int, start: int, after: int) -> Key:
    """Fullest card, lowest start."""
    del profile, after
    return (space.free[state], start)
