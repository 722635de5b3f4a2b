"""How good any plan can be: the cuts of column generation over whole pods and whole gangs.

Three small integer programs (SCIP) over the number of pods placed by entry and gang; every cut of
``plan_columns`` holds for every plan, so their optima bound all plans, known columns or not:

    objective     max Σ weight·placed − price
    placed        max Σ rank·placed, rank lexicographic by level
    price         min price among plans that place as many by level as the one found

Pure: time limits are the solver's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ortools.linear_solver import pywraplp

from scheduler.packing.plan_columns import Cut
from scheduler.packing.plan_problem import NO_QUOTA, PlanProblem

_SLACK = 1e-6


class PlanBounds:
    """The bounds of one plan."""

    def __init__(self, problem: PlanProblem, cuts: Sequence[Cut], weights: tuple[float, ...]) -> None:
        self._problem, self._weights = problem, weights
        self._cuts = cuts
        levels = problem.levels
        totals = [0] * levels
        for entry in problem.wanted:
            totals[entry.level] += entry.count
        for gang in problem.gangs:
            totals[gang.level] += gang.size
        self._ranks = [1.0] * levels
        for level in range(1, levels):
            self._ranks[level] = self._ranks[level - 1] * (1 + totals[level - 1])

    def objective(self, seconds: float) -> float:
        """Upper bound of the objective."""
        model = _Model(self._problem, self._cuts, seconds)
        goal = [
            weight * part
            for weight, part in zip(
                [*(self._weights[e.level] for e in self._problem.wanted)]
                + [self._weights[g.level] * g.size for g in self._problem.gangs],
                model.parts,
                strict=True,
            )
        ]
        return model.maximum(sum(goal) - model.price)

    def placed(self, seconds: float) -> tuple[int, ...]:
        """Upper bound of the pods placed by level, highest level first, lexicographically."""
        model = _Model(self._problem, self._cuts, seconds)
        ranks = [self._ranks[e.level] for e in self._problem.wanted]
        ranks += [self._ranks[g.level] * g.size for g in self._problem.gangs]
        most = model.maximum(sum(rank * part for rank, part in zip(ranks, model.parts, strict=True)))
        total, found = math.floor(most * (1 + 1e-12) + 1e-3), []
        for rank in reversed(self._ranks):
            found.append(int(total // rank))
            total -= int(found[-1] * rank)
        return tuple(found)

    def price(self, placed: tuple[int, ...], seconds: float) -> float:
        """Lower bound of the price of plans that place so many by level (highest first)."""
        model = _Model(self._problem, self._cuts, seconds)
        for level, count in enumerate(reversed(placed)):
            members = [
                part * size
                for part, own, size in zip(
                    model.parts,
                    [*(e.level for e in self._problem.wanted), *(g.level for g in self._problem.gangs)],
                    [*(1 for _ in self._problem.wanted), *(g.size for g in self._problem.gangs)],
                    strict=True,
                )
                if own == level
            ]
            if members:
                model.solver.Add(sum(members) >= count)
        return -model.maximum(-1.0 * model.price)


class _Model:
    def __init__(self, problem: PlanProblem, cuts: Sequence[Cut], seconds: float) -> None:
        solver = pywraplp.Solver.CreateSolver("SCIP")
        assert solver is not None
        solver.SetTimeLimit(max(50, int(seconds * 1000)))
        self.solver = solver
        self.parts = [solver.IntVar(0, entry.count, "") for entry in problem.wanted]
        self.parts += [solver.IntVar(0, 1, "") for _ in problem.gangs]
        self.price = solver.NumVar(-solver.infinity(), solver.infinity(), "")
        takes = [((entry.shape, 1),) for entry in problem.wanted] + [gang.members for gang in problem.gangs]
        for cut in cuts:
            worth = sum(
                sum(float(cut.prices[shape]) * count for shape, count in members) * part
                for members, part in zip(takes, self.parts, strict=True)
            )
            if math.isfinite(cut.money):
                solver.Add(self.price - worth >= -cut.money - _SLACK)
            if math.isfinite(cut.room):
                solver.Add(worth <= cut.room + _SLACK)
        quotas = [entry.quota for entry in problem.wanted] + [gang.quota for gang in problem.gangs]
        for quota, cap in enumerate(problem.quotas):
            members = [
                sum(problem.gpus[shape] * count for shape, count in take) * part
                for take, part, own in zip(takes, self.parts, quotas, strict=True)
                if own == quota != NO_QUOTA
            ]
            if members:
                solver.Add(sum(members) <= cap + _SLACK)

    def maximum(self, goal: object) -> float:
        """The solver's proved upper bound of the goal."""
        self.solver.Maximize(goal)
        status = self.solver.Solve()
        if status in (pywraplp.Solver.OPTIMAL, pywraplp.Solver.FEASIBLE):
            return float(self.solver.Objective().BestBound())
        return math.inf
