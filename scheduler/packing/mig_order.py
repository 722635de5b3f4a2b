"""Which of several waiting MIG pods goes first, when a plan may choose: the one that uses room best.

    urgency = (slices − value lost) / slices + waited / (PATIENCE × slices)

``slices``: compute slices the instance earns; ``value lost``: what its cheapest placement costs
(``mig_values``, compute slices). The first part prefers a pod that leaves the card's room of use to others,
the second lets waiting time win in the end, sooner for small pods: by the time a pod of seven slices counts
as urgent as one of one slice that has waited an hour, it has waited seven.

Pure. The planner sorts with it; it decides neither priority classes nor quotas, which come first.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from scheduler.packing.mig_space import CardSpace
from scheduler.packing.mig_values import Floats, card_values

PATIENCE_SECONDS = 1000.0


def urgency(compute_slices: float, value_lost: float, waited_seconds: float) -> float:
    """The higher goes first. Raises ValueError when there are no slices to earn."""
    if compute_slices <= 0:
        raise ValueError(f"compute slices: got {compute_slices}, expected more than 0")
    return (compute_slices - value_lost + waited_seconds / PATIENCE_SECONDS) / compute_slices


@lru_cache(maxsize=4096)
def cheapest_losses(
    space: CardSpace, shares: tuple[float, ...], waiting: frozenset[int], profile: int
) -> Floats:
    """float64[n_states], compute slices: what the cheapest placement of a profile costs from each state, inf
    where none fits or nothing of the space leads there. Arguments as of ``card_values``; read-only.
    """
    values = card_values(space, shares, waiting)
    losses = np.full(space.n_states, np.inf)
    for state in space.states:
        for _, number in space.steps[profile][state]:
            losses[state] = min(losses[state], float(values[state] - values[state + number]))
    losses.setflags(write=False)
    return losses
