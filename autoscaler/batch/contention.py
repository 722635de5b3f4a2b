"""Jobs that want the same hours: do their starts fit the GPUs, and the best of simple orders.

``room`` is float64[pools, slots]: GPUs free in each slot. A choice that would need more than there is
counts as not allowed; a job without any allowed choice gets None and goes at once. Two orders are tried,
the most urgent first and the largest first, each job at its cheapest start that still fits; the order that
leaves fewer jobs out wins, then the cheaper one. Pure; the optimum is ``solve``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np

from autoscaler.batch.candidates import SLOT_SECONDS, Candidates
from autoscaler.batch.curve import Floats
from autoscaler.batch.work import Pool

Chosen: TypeAlias = "tuple[int, int] | None"
"""Row and slot in ``Candidates.costs``; None for a job that finds no room."""
_SLACK: Final = 1e-6


def room(pools: Sequence[Pool], choices: Sequence[Candidates], now: float) -> Floats:
    """Free GPUs by pool and slot: in each slot the least of it, as far as any choice reaches."""
    slots = max((choice.costs.shape[1] + choice.occupied_slots for choice in choices), default=1)
    begin = now + SLOT_SECONDS * np.arange(slots)
    rows = [pool.free.least(begin, begin + SLOT_SECONDS) for pool in pools]
    return np.array(rows, dtype=np.float64).reshape(len(pools), slots)


def fits_together(choices: Sequence[Candidates], chosen: Sequence[Chosen], left: Floats) -> bool:
    """Say whether all starts fit the GPUs at once."""
    used = np.zeros_like(left)
    for choice, pick in zip(choices, chosen, strict=True):
        if pick is not None:
            row, slot = pick
            used[choice.pools[row], slot : slot + choice.occupied_slots] += choice.job.gpus
    return bool((used <= np.maximum(left, 0.0) + _SLACK).all())


def by_orders(choices: Sequence[Candidates], left: Floats) -> list[Chosen]:
    """The best of the simple orders."""
    orders: tuple[Callable[[int], tuple[float, str]], ...] = (
        lambda i: (choices[i].job.latest_start_seconds, choices[i].job.key),
        lambda i: (-choices[i].job.gpus * choices[i].occupied_slots, choices[i].job.key),
    )
    plans = [_in_order(choices, left, sorted(range(len(choices)), key=order)) for order in orders]
    return min(plans, key=lambda plan: worth(choices, plan))


def worth(choices: Sequence[Candidates], chosen: Sequence[Chosen]) -> tuple[int, float]:
    """How many jobs are left out, and the cost of the others: less is better."""
    out = sum(pick is None for pick in chosen)
    cost = sum(
        float(choice.costs[pick]) for choice, pick in zip(choices, chosen, strict=True) if pick is not None
    )
    return out, cost


def allowed(choice: Candidates, left: Floats) -> Floats:
    """The costs of the choice, infinite where ``left`` does not hold it."""
    costs = choice.costs.copy()
    if choice.job.gpus <= 0.0:
        return costs
    for row, pool in enumerate(choice.pools):
        # How many slots too full come before each: a span is free where that does not grow.
        full = np.zeros(left.shape[1] + 1, dtype=np.int64)
        np.cumsum(left[pool] + _SLACK < choice.job.gpus, out=full[1:])
        spans = full[choice.occupied_slots :] - full[: -choice.occupied_slots]
        costs[row, spans[: costs.shape[1]] > 0] = np.inf
    return costs


def _in_order(choices: Sequence[Candidates], left: Floats, order: Sequence[int]) -> list[Chosen]:
    remaining = left.copy()
    chosen: list[Chosen] = [None] * len(choices)
    for index in order:
        choice = choices[index]
        costs = allowed(choice, remaining)
        # The earliest of equals, whichever pool: transposed, so that the slot counts before the row.
        slot, row = divmod(int(np.argmin(costs.T)), costs.shape[0])
        if not np.isfinite(costs[row, slot]):
            continue
        chosen[index] = (row, slot)
        remaining[choice.pools[row], slot : slot + choice.occupied_slots] -= choice.job.gpus
    return chosen
