"""Column generation for a plan: which fillings are worth choosing among, and cuts that bound every plan.

Master LP (GLOP), x = how many nodes of a class take a filling, z = single pods placed, y = gangs placed:

    max  Σ weight·z + Σ weight·size·y − Σ price·x
    s.t. Σ_f n_f,s·x_f = Σ z + Σ size_s·y   for every shape s        (dual π_s: what a pod of it is worth)
         Σ_f x_c,f ≤ count_c                for every node class c
         Σ GPUs·z + Σ GPUs·y ≤ quota

Each round prices new fillings by ``plan_relaxation`` under π, replays them by first-fit and adds them at
their true price. The same relaxation gives, for any π, two inequalities that every plan of every column
obeys, with d_s the pods of shape s placed:

    price of the plan ≥ Σ π_s·d_s − Σ_c count_c·R_c(π)        Σ π_s·d_s ≤ Σ_c count_c·C_c(π)

(R with money, C without). They are kept as cuts for ``plan_bound``. Dantzig & Wolfe 1960; Gilmore & Gomory
1961; the bound is Lagrange's, see Lübbecke & Desrosiers 2005. Pure: time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from ortools.linear_solver import pywraplp

from scheduler.packing.plan_problem import NO_QUOTA, Filling, PlanProblem, Used
from scheduler.packing.plan_relaxation import Earned, Relaxation
from scheduler.packing.plan_replay import Replay

Floats = npt.NDArray[np.float64]
_EPSILON = 1e-7
MOST_NEW = 80
_FIRST_STEP = 0.1


@dataclass(frozen=True, slots=True)
class Column:
    """One filling of one node class: its price and its pods by shape."""

    node: int
    filling: Filling
    price: float
    pods: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """price ≥ π·d − ``money`` and π·d ≤ ``room`` for the pods d placed by shape (infinite: says nothing)."""

    prices: Floats
    money: float
    room: float


@dataclass(slots=True)
class ColumnPool:
    """The fillings known so far, each once."""

    replay: Replay
    columns: list[Column] = field(default_factory=list)
    _known: dict[tuple[int, tuple[tuple[int, int], ...]], int] = field(default_factory=dict)

    def add(self, node: int, wanted: Filling) -> int | None:
        """Replay a filling and keep what fits; its index if it is new or cheaper than what was known."""
        filling, filled = self.replay.fill(node, wanted)
        if not filling:
            return None
        counts: dict[int, int] = {}
        for shape in filling:
            counts[shape] = counts.get(shape, 0) + 1
        pods = tuple(sorted(counts.items()))
        known = self._known.get((node, pods))
        if known is not None and self.columns[known].price <= filled.price + _EPSILON:
            return None
        self._known[node, pods] = len(self.columns)
        self.columns.append(Column(node, filling, filled.price, pods))
        return len(self.columns) - 1

    def index_of(self, use: Used) -> int:
        """The column of a filling in use, added if it is not there."""
        counts: dict[int, int] = {}
        for shape in use.filling:
            counts[shape] = counts.get(shape, 0) + 1
        pods = tuple(sorted(counts.items()))
        known = self._known.get((use.node, pods))
        if known is None:
            self.add(use.node, use.filling)
            known = self._known[use.node, pods]
        return known


class PlanMaster:
    """The LP over the pool, grown in place so that each solve starts from the last basis."""

    def __init__(self, pool: ColumnPool, weights: tuple[float, ...]) -> None:
        problem = pool.replay.problem
        self._pool, self._problem, self._weights = pool, problem, weights
        self.solver = pywraplp.Solver.CreateSolver("GLOP")
        assert self.solver is not None
        infinity = self.solver.infinity()
        objective = self.solver.Objective()
        objective.SetMaximization()
        self._balance = [self.solver.Constraint(0.0, 0.0) for _ in range(problem.shapes)]
        self._room = [self.solver.Constraint(-infinity, float(node.count)) for node in problem.nodes]
        self._quota = [self.solver.Constraint(-infinity, cap) for cap in problem.quotas]
        self._filled = 0
        for entry in problem.wanted:
            var = self.solver.NumVar(0.0, float(entry.count), "")
            objective.SetCoefficient(var, weights[entry.level])
            self._balance[entry.shape].SetCoefficient(var, -1.0)
            if entry.quota != NO_QUOTA:
                self._quota[entry.quota].SetCoefficient(var, problem.gpus[entry.shape])
        for gang in problem.gangs:
            var = self.solver.NumVar(0.0, 1.0, "")
            objective.SetCoefficient(var, weights[gang.level] * gang.size)
            counts: dict[int, int] = {}
            for shape, count in gang.members:
                counts[shape] = counts.get(shape, 0) + count
            for shape, count in counts.items():
                self._balance[shape].SetCoefficient(var, -float(count))
            if gang.quota != NO_QUOTA:
                gpus = sum(problem.gpus[shape] * count for shape, count in counts.items())
                self._quota[gang.quota].SetCoefficient(var, gpus)
        self.vars: list[pywraplp.Variable] = []

    def solve(self) -> tuple[Floats, Floats, float]:
        """π by shape, the dual of each class, and the objective."""
        objective, infinity = self.solver.Objective(), self.solver.infinity()
        for column in self._pool.columns[self._filled :]:
            var = self.solver.NumVar(0.0, infinity, "")
            objective.SetCoefficient(var, -column.price)
            self._room[column.node].SetCoefficient(var, 1.0)
            for shape, count in column.pods:
                self._balance[shape].SetCoefficient(var, float(count))
            self.vars.append(var)
        self._filled = len(self._pool.columns)
        status = self.solver.Solve()
        if status not in (pywraplp.Solver.OPTIMAL, pywraplp.Solver.FEASIBLE):
            raise ArithmeticError(f"the planning LP ended with status {status}; expected an optimum")
        prices = np.array([-row.dual_value() for row in self._balance], dtype=np.float64)
        rooms = np.array([row.dual_value() for row in self._room], dtype=np.float64)
        return prices, rooms, float(objective.Value())


@dataclass(frozen=True, slots=True)
class Generated:
    """What column generation came to."""

    cuts: tuple[Cut, ...]
    lp_objective: float
    lp_bound: float
    rounds: int
    values: tuple[float, ...]


def generate(
    pool: ColumnPool,
    weights: tuple[float, ...],
    starts: Iterable[Used],
    *,
    guess: Floats,
    clock: Callable[[], float],
    until: float,
    gap: float,
) -> Generated:
    """Generate columns until the LP is within ``gap`` (absolute, money per hour) of its bound, nothing new
    comes up, or the clock reads ``until``. At least one round is made. ``guess``: pod prices by shape to
    begin with, such as what one more pod costs after the greedy plan.
    """
    problem = pool.replay.problem
    for use in starts:
        pool.index_of(use)
    relaxation = Relaxation(pool.replay)
    master = PlanMaster(pool, weights)
    counts = np.array([node.count for node in problem.nodes], dtype=np.float64)
    cuts: list[Cut] = []
    best_bound, centre, rounds, step = np.inf, guess, 0, 0.0
    lp_prices, rooms, objective = master.solve()
    while True:
        # In-out separation: between the best prices known and the LP's own, which jump about at first.
        rounds += 1
        prices = centre + step * (lp_prices - centre)
        earned = relaxation.earn(prices)
        money = float(counts @ earned.most)
        cuts.append(Cut(prices, money, np.inf))
        bound = _pods_bound(problem, weights, prices) + money
        better = bound < best_bound - 1e-9 * max(1.0, abs(bound))
        if better:
            best_bound, centre = bound, prices
        added = _add_best(pool, relaxation, earned, lp_prices, rooms)
        if added:
            lp_prices, rooms, objective = master.solve()
        if best_bound - objective <= gap or clock() >= until or (step >= 1.0 and not added):
            break
        step = _FIRST_STEP if added and better else min(1.0, max(_FIRST_STEP, 1.7 * step))
    lp_prices, _, objective = master.solve()
    for prices in _room_prices(problem, weights, (centre, lp_prices)):
        room = float(counts @ relaxation.earn(prices, money=False).most)
        cuts.append(Cut(prices, np.inf, room))
    values = tuple(var.solution_value() for var in master.vars)
    return Generated(tuple(cuts), objective, best_bound, rounds, values)


def _room_prices(problem: PlanProblem, weights: tuple[float, ...], found: Iterable[Floats]) -> list[Floats]:
    """Pod prices to bound numbers with: what a shape costs for want of room, its mere price taken off."""
    least = np.full(problem.shapes, np.inf)
    for node in problem.nodes:
        own = np.array([np.inf if price is None else price for price in node.other])
        least = np.minimum(least, own)
    least = np.where(np.isfinite(least), np.maximum(least, 0.0), 0.0)
    sizes = np.array(problem.gpus, dtype=np.float64)
    made = []
    for prices in found:
        made.append(np.maximum(0.0, prices))
        made.append(np.maximum(0.0, prices - 2.0 * least - 0.01 * weights[0]))
        made.append(np.where(prices > 0.25 * weights[0], prices, 0.0))
    made.append(sizes * weights[0])
    return made


def _pods_bound(problem: PlanProblem, weights: tuple[float, ...], prices: Floats) -> float:
    """What the pods' side earns at most at these prices; quotas are left out, which only raises it."""
    total = sum(
        entry.count * max(0.0, weights[entry.level] - float(prices[entry.shape])) for entry in problem.wanted
    )
    for gang in problem.gangs:
        cost = sum(float(prices[shape]) * count for shape, count in gang.members)
        total += max(0.0, weights[gang.level] * gang.size - cost)
    return total


def _add_best(pool: ColumnPool, relaxation: Relaxation, earned: Earned, prices: Floats, rooms: Floats) -> int:
    """Replay the fillings of the classes that promise most; answers how many improve the LP."""
    promise = earned.most - np.maximum(rooms, 0.0)
    order = np.argsort(-promise, kind="stable")
    gpus = pool.replay.problem.gpus
    added = 0
    for node in order.tolist():
        if added >= MOST_NEW or earned.most[node] <= _EPSILON:
            break
        found = relaxation.filling(earned, node)
        if not found:
            continue
        big_first = sorted(found, key=lambda shape: (-gpus[shape], shape))
        filling = tuple(shape for shape in big_first for _ in range(found[shape]))
        index = pool.add(node, filling)
        if index is not None:
            column = pool.columns[index]
            reduced = sum(prices[s] * n for s, n in column.pods) - column.price - max(rooms[node], 0.0)
            added += reduced > _EPSILON
    return added
