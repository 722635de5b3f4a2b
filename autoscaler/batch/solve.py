"""The cheapest starts that fit the GPUs together: relaxation, rounding, then CP-SAT on what is left.

    1. relaxation   a bound, and what each start costs at the prices of scarce hours (``relaxation``)
    2. rounding     the simple orders again, with those prices in the costs
    3. CP-SAT       only while the distance to the bound exceeds ``CLOSE_ENOUGH``, over the starts that a
                    better schedule may have, from the best schedule known

In CP-SAT GPUs are counted in thousandths and costs on a scale of 2^24: what that rounds away is below a
millionth of the dearest start. One worker, a deterministic time limit: equal input, equal answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from autoscaler.batch.candidates import Candidates
from autoscaler.batch.contention import Chosen, allowed, by_orders, worth
from autoscaler.batch.curve import Floats
from autoscaler.batch.work import Method

CLOSE_ENOUGH: Final = 1e-3
LARGEST: Final = 60_000
"""Starts beyond which no model is built: it would be out of date before it is solved."""
_SCALE: Final = 2**24
_MILLI: Final = 1000.0
_GREEDY: Final[Method] = "greedy"
_ROUNDED: Final[Method] = "rounded"
_LONGEST_SECONDS: Final = 10.0
"""Of the wall clock, for a machine so slow that the deterministic limit is far away."""


def solve(
    choices: Sequence[Candidates], left: Floats, start: Sequence[Chosen], effort: float
) -> tuple[list[Chosen], Method]:
    """The best starts found, never worse than ``start``; ``effort`` bounds CP-SAT, in deterministic
    seconds.
    """
    # Imported here: whoever never has two jobs that want the same hour need not load it.
    from autoscaler.batch.relaxation import LEFT_OUT_TIMES, relaxed

    best, method = list(start), _GREEDY
    costs = [allowed(choice, left) for choice in choices]
    finite = [one[np.isfinite(one)] for one in costs]
    dearest = max((float(one.max()) for one in finite if one.size), default=0.0)
    left_out_cost = LEFT_OUT_TIMES * max(dearest, 1e-12)

    def value(chosen: Sequence[Chosen]) -> float:
        out, cost = worth(choices, chosen)
        return cost + out * left_out_cost

    known = value(best)
    found = relaxed(choices, costs, left, best, left_out_cost, known - CLOSE_ENOUGH * abs(known))
    if found is None:
        return best, method
    priced = [replace(choice, costs=reduced) for choice, reduced in zip(choices, found.reduced, strict=True)]
    rounded = by_orders(priced, left)
    if worth(choices, rounded) < worth(choices, best):
        best, method = rounded, _ROUNDED

    if value(best) - found.bound <= CLOSE_ENOUGH * abs(value(best)):
        return best, _ROUNDED
    kept = found.worthwhile(value(best))
    if sum(int(one.sum()) for one in kept) > LARGEST:
        return best, method
    costs = [np.where(one, cost, np.inf) for one, cost in zip(kept, costs, strict=True)]
    improved = _improved(choices, costs, left, best, effort, dearest)
    if improved is None or worth(choices, improved[0]) > worth(choices, best):
        return best, method
    return improved


def _improved(
    choices: Sequence[Candidates],
    costs: Sequence[Floats],
    left: Floats,
    start: Sequence[Chosen],
    effort: float,
    dearest: float,
) -> tuple[list[Chosen], Method] | None:
    from ortools.sat.python import cp_model

    scale = _SCALE / dearest if dearest > 0.0 else 1.0
    model = cp_model.CpModel()
    terms: list[Any] = []
    weights: list[int] = []
    users: dict[tuple[int, int], tuple[list[Any], list[int]]] = {}
    picks: list[list[tuple[tuple[int, int], Any]]] = []
    for choice, one, hint in zip(choices, costs, start, strict=True):
        variables: list[tuple[tuple[int, int], Any]] = []
        gpus = int(np.ceil(choice.job.gpus * _MILLI - 1e-6))
        for row, slot in np.argwhere(np.isfinite(one)).tolist():
            variable = model.new_bool_var("")
            model.add_hint(variable, (row, slot) == hint)
            variables.append(((row, slot), variable))
            terms.append(variable)
            weights.append(round(float(one[row, slot]) * scale))
            for at in range(slot, slot + choice.occupied_slots) if gpus else ():
                taken = users.setdefault((choice.pools[row], at), ([], []))
                taken[0].append(variable)
                taken[1].append(gpus)
        left_out = model.new_bool_var("")
        model.add_hint(left_out, hint is None)
        model.add_exactly_one([variable for _, variable in variables] + [left_out])
        terms.append(left_out)
        weights.append(2 * _SCALE * (len(choices) + 1))
        picks.append(variables)
    for (pool, at), (running, gpus_each) in users.items():
        most = int(max(0.0, left[pool, at]) * _MILLI + 1e-6)
        if sum(gpus_each) > most:
            model.add(cp_model.LinearExpr.weighted_sum(running, gpus_each) <= most)
    model.minimize(cp_model.LinearExpr.weighted_sum(terms, weights))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = effort
    solver.parameters.max_time_in_seconds = _LONGEST_SECONDS
    solver.parameters.relative_gap_limit = CLOSE_ENOUGH
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    found: list[Chosen] = [
        next((pick for pick, variable in variables if solver.boolean_value(variable)), None)
        for variables in picks
    ]
    return found, "optimal" if status == cp_model.OPTIMAL else "feasible"
