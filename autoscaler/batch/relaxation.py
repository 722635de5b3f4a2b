"""The prices of scarce hours, and a bound that no schedule can beat: linear relaxation by column generation.

    minimise   sum of cost × x + left_out                            dual
    each job   sum of its x + left_out = 1                           job price s_j
    each pool and slot   sum of GPUs × x running in it ≤ free GPUs   GPU price l_pt ≤ 0

A column is one start of one job. Those that price out (cost − GPUs × sum of l over the slots it runs < s_j)
enter until none does; then the relaxation is solved over all of them. A start whose reduced cost exceeds
the distance between the best schedule known and the bound is in no better schedule: ``worthwhile`` drops
it, which leaves the solver a small model with the same optimum. OR-Tools' GLOP; deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from ortools.linear_solver import pywraplp

from autoscaler.batch.candidates import Candidates
from autoscaler.batch.contention import Chosen
from autoscaler.batch.curve import Floats

LEFT_OUT_TIMES: Final = 100.0
"""A job without room costs so many times the dearest start."""
_ROUNDS: Final = 60
_PRICES_OUT: Final = 1e-7
_TOUCH: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Relaxed:
    """``bound``: what every schedule costs at least; ``reduced``: by job float64[rows, slots], how much
    more a schedule with that start costs at least (infinite: not allowed).
    """

    bound: float
    reduced: tuple[Floats, ...]

    def worthwhile(self, best_known: float) -> list[NDArray[np.bool_]]:
        """Which starts a better schedule than ``best_known`` may have: bool[rows, slots] by job."""
        return [one <= max(0.0, best_known - self.bound) + _TOUCH for one in self.reduced]


def relaxed(
    choices: Sequence[Candidates],
    costs: Sequence[Floats],
    left: Floats,
    start: Sequence[Chosen],
    left_out_cost: float,
    good_enough: float,
) -> Relaxed | None:
    """Solve the relaxation from the starts of a schedule, until its bound reaches ``good_enough``; None when
    GLOP gives up.
    """
    program = _Program(choices, left, left_out_cost)
    for index, one in enumerate(costs):
        row, slot = divmod(int(np.argmin(one)), one.shape[1])
        if np.isfinite(one[row, slot]):
            program.add(index, (row, slot), float(one[row, slot]))
    for index, (one, pick) in enumerate(zip(costs, start, strict=True)):
        if pick is not None:
            program.add(index, pick, float(one[pick]))
    for _ in range(_ROUNDS):
        solved = program.solve()
        if solved is None:
            return None
        bound, job_prices, slot_prices = solved
        summed = np.concatenate([np.zeros((len(slot_prices), 1)), np.cumsum(slot_prices, axis=1)], axis=1)
        reduced = []
        entered = False
        least_sum = 0.0
        for index, (choice, one) in enumerate(zip(choices, costs, strict=True)):
            slots = one.shape[1]
            ends = summed[:, choice.occupied_slots : choice.occupied_slots + slots]
            spans = (ends - summed[:, :slots])[list(choice.pools)]
            net = one - choice.job.gpus * spans - job_prices[index]
            reduced.append(net)
            row, slot = divmod(int(np.argmin(net)), slots)
            least, cost = float(net[row, slot]), float(one[row, slot])
            least_sum += min(0.0, least)
            if least < -_PRICES_OUT * max(1e-12, abs(cost)):
                entered |= program.add(index, (row, slot), cost)
        if not entered:
            return Relaxed(bound + least_sum, tuple(reduced))
        if bound + least_sum >= good_enough:
            break
    # Not closed, or close enough: the Lagrangian bound of the last prices holds all the same.
    return Relaxed(bound + least_sum, tuple(one - min(0.0, float(one.min())) for one in reduced))


class _Program:
    """The restricted program; grows by columns and keeps its basis."""

    def __init__(self, choices: Sequence[Candidates], left: Floats, left_out_cost: float) -> None:
        self._choices = choices
        self._shape = left.shape
        self._known: set[tuple[int, int, int]] = set()
        solver: Any = pywraplp.Solver.CreateSolver("GLOP")
        self._solver, self._objective = solver, solver.Objective()
        self._objective.SetMinimization()
        self._jobs = [solver.Constraint(1.0, 1.0) for _ in choices]
        self._slots = {
            (pool, at): solver.Constraint(-solver.infinity(), max(0.0, float(left[pool, at])))
            for pool in range(left.shape[0])
            for at in range(left.shape[1])
        }
        for row in self._jobs:
            variable = solver.NumVar(0.0, 1.0, "")
            row.SetCoefficient(variable, 1.0)
            self._objective.SetCoefficient(variable, left_out_cost)

    def add(self, job: int, pick: tuple[int, int], cost: float) -> bool:
        """Let a start in; False when it is in already."""
        if (job, *pick) in self._known:
            return False
        self._known.add((job, *pick))
        choice = self._choices[job]
        variable = self._solver.NumVar(0.0, self._solver.infinity(), "")
        self._objective.SetCoefficient(variable, cost)
        self._jobs[job].SetCoefficient(variable, 1.0)
        if choice.job.gpus > 0.0:
            for at in range(pick[1], pick[1] + choice.occupied_slots):
                self._slots[choice.pools[pick[0]], at].SetCoefficient(variable, choice.job.gpus)
        return True

    def solve(self) -> tuple[float, list[float], Floats] | None:
        """Objective, job prices, GPU prices (pools × slots, at most 0)."""
        if self._solver.Solve() != pywraplp.Solver.OPTIMAL:
            return None
        prices = np.zeros(self._shape)
        for (pool, at), row in self._slots.items():
            prices[pool, at] = min(0.0, row.dual_value())
        return self._objective.Value(), [row.dual_value() for row in self._jobs], prices
