"""A plan from start to proof, within a deadline: greedy, column generation, CP-SAT, bound.

    1. greedy      pods in queue order at the cheapest node: the plan to beat, and the answer if time is up
    2. columns     fillings worth choosing among, and the cuts that bound every plan
    3. CP-SAT      the best plan out of them, from the best start known
    4. extend      whatever still fits is placed by price
    5. bound       how far from the best any plan could be

The answer is never worse than the greedy plan: more pods placed by priority, or as many for less money.
``weights`` of a level: above any price a pod can have, and above 64 pods of the level below (no pod displaces
more). Pure: the clock is passed in, the seed fixed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler.packing.plan_bound import PlanBounds
from scheduler.packing.plan_columns import ColumnPool, Generated, generate
from scheduler.packing.plan_greedy import extend, greedy
from scheduler.packing.plan_master import choose
from scheduler.packing.plan_problem import Placing, PlanAnswer, PlanProblem, Used, better
from scheduler.packing.plan_replay import Replay

Floats = npt.NDArray[np.float64]

LEVEL_RATIO = 64.0
_GOOD_ENOUGH = 0.002


@dataclass(frozen=True, slots=True)
class Shares:
    """How the seconds are shared out: until when columns are made, and the bound's part at the end."""

    columns: float = 0.68
    bound: float = 0.1


def solve_plan(
    problem: PlanProblem,
    deadline_seconds: float,
    clock: Callable[[], float],
    *,
    seed: int = 1,
    shares: Shares | None = None,
) -> PlanAnswer:
    """Plan within ``deadline_seconds`` of now."""
    shares = shares or Shares()
    started = clock()
    # The last solver call may run over by what it takes to notice.
    deadline_seconds *= 0.95
    replay = Replay(problem)
    first, next_prices = greedy(replay)
    weights = level_weights(problem, first)
    worth = _objective(problem, first, weights)
    if not (problem.wanted or problem.gangs) or not problem.nodes:
        return _answer(problem, first, first, weights, None, worth, "empty")
    pool = ColumnPool(replay)
    made = generate(
        pool,
        weights,
        first.used,
        guess=_guess(problem, weights, next_prices, first),
        clock=clock,
        until=started + shares.columns * deadline_seconds,
        gap=_GOOD_ENOUGH * max(1.0, abs(first.price)),
    )
    best = first
    status = "greedy"
    if made.lp_bound - worth > 1e-6 * max(1.0, abs(worth)):
        rounded = _rounded(replay, pool, made)
        if better(problem, rounded, best):
            best, status = rounded, "rounded"
        near = _GOOD_ENOUGH * max(1.0, abs(best.price))
        left = started + (1.0 - shares.bound) * deadline_seconds - clock()
        if made.lp_bound - _objective(problem, best, weights) <= near:
            left = 0.0
        found = None
        if left > 0.0:
            hint = Counter({pool.index_of(use): use.count for use in best.used})
            found = choose(problem, pool.columns, best, dict(hint), seconds=left, seed=seed)
        if found is not None:
            full = extend(replay, found.placing)
            if better(problem, full, best):
                best, status = full, "optimal" if found.proved else "feasible"
    bounds = PlanBounds(problem, made.cuts, weights)
    seconds = max(0.1, started + deadline_seconds - clock()) / 3
    placed = best.placed(problem)
    bound = min(made.lp_bound, bounds.objective(seconds))
    placed_bound = bounds.placed(seconds)
    price_bound = bounds.price(placed, seconds) if placed == placed_bound else -math.inf
    return PlanAnswer(
        placing=best,
        objective=_objective(problem, best, weights),
        bound=bound,
        placed=placed,
        placed_bound=placed_bound,
        price=best.price,
        price_bound=price_bound,
        greedy_objective=worth,
        greedy_price=first.price,
        greedy_placed=first.placed(problem),
        rounds=made.rounds,
        columns=len(pool.columns),
        status=status,
    )


def _guess(
    problem: PlanProblem, weights: tuple[float, ...], next_prices: list[float], first: Placing
) -> Floats:
    """Pod prices to begin with: what one more costs; where none fits, what the least of those left waiting
    counts, or what the room counts that it would take from others.
    """
    least = [math.inf] * problem.shapes
    entries: list[tuple[float, float]] = []
    placed = 0.0
    for entry, number in zip(problem.wanted, first.singles, strict=True):
        size = problem.gpus[entry.shape]
        least[entry.shape] = min(least[entry.shape], weights[entry.level])
        entries.append((weights[entry.level] / max(size, 1e-9), size * entry.count))
        placed += size * number
    for gang, chosen in zip(problem.gangs, first.gangs, strict=True):
        size = sum(problem.gpus[shape] * count for shape, count in gang.members)
        for shape, _ in gang.members:
            least[shape] = min(least[shape], weights[gang.level])
        entries.append((weights[gang.level] * gang.size / max(size, 1e-9), size))
        placed += size * chosen
    margin = weights[0]
    for density, size in sorted(entries, reverse=True):
        placed -= size
        if placed <= 0:
            margin = density
            break
    return np.array(
        [
            price if math.isfinite(price) else min(waiting, margin * size)
            for price, waiting, size in zip(next_prices, least, problem.gpus, strict=True)
        ],
        dtype=np.float64,
    )


def level_weights(problem: PlanProblem, first: Placing) -> tuple[float, ...]:
    """Money per hour that one placed pod of each level counts."""
    dearest = 1.0
    for node in problem.nodes:
        hardware = problem.kinds[node.kind]
        swing = sum(max(table) - min(table) for table in hardware.pools)
        swing += sum(
            max(problem.values[g.value].worth) - min(problem.values[g.value].worth) for g in hardware.gpus
        )
        prices = [price for price in node.other if price is not None]
        dearest = max(dearest, swing + max(prices, default=0.0))
    return tuple(2.0 * dearest * LEVEL_RATIO**level for level in range(problem.levels))


def _objective(problem: PlanProblem, placing: Placing, weights: tuple[float, ...]) -> float:
    placed = reversed(placing.placed(problem))
    return sum(weight * count for weight, count in zip(weights, placed, strict=True)) - placing.price


def _rounded(replay: Replay, pool: ColumnPool, made: Generated) -> Placing:
    """The LP's fillings taken whole, then whatever still fits by price: a quick second start."""
    problem = replay.problem
    left = problem.demand()
    room = [node.count for node in problem.nodes]
    used: list[Used] = []
    order = sorted(range(len(made.values)), key=lambda index: (-(made.values[index] % 1.0), index))
    for whole in (True, False):
        for index in order:
            value = made.values[index]
            column = pool.columns[index]
            number = int(value + 1e-6) if whole else int(value % 1.0 > 0.5)
            number = min(number, room[column.node], *(left[s] // n for s, n in column.pods))
            if number > 0:
                room[column.node] -= number
                for shape, count in column.pods:
                    left[shape] -= number * count
                used.append(Used(column.node, column.filling, column.price, number))
    return extend(replay, _assigned(problem, used))


def _assigned(problem: PlanProblem, used: list[Used]) -> Placing:
    """Hand the room of some fillings to pods, the highest level first; room that is left over is given up
    node by node.
    """
    supply: Counter[int] = Counter()
    for use in used:
        for shape in use.filling:
            supply[shape] += use.count
    quotas = list(problem.quotas)
    singles, gangs = [0] * len(problem.wanted), [False] * len(problem.gangs)
    for level in reversed(range(problem.levels)):
        for index, gang in enumerate(problem.gangs):
            gpus = sum(problem.gpus[s] * n for s, n in gang.members)
            fits = all(supply[shape] >= count for shape, count in gang.members)
            if gang.level == level and fits and (gang.quota < 0 or quotas[gang.quota] >= gpus):
                gangs[index] = True
                if gang.quota >= 0:
                    quotas[gang.quota] -= gpus
                for shape, count in gang.members:
                    supply[shape] -= count
        for index, entry in enumerate(problem.wanted):
            if entry.level == level:
                number = min(entry.count, supply[entry.shape])
                if entry.quota >= 0 and problem.gpus[entry.shape] > 0:
                    number = min(number, int(quotas[entry.quota] / problem.gpus[entry.shape] + 1e-9))
                    quotas[entry.quota] -= number * problem.gpus[entry.shape]
                singles[index] = number
                supply[entry.shape] -= number
    return Placing(tuple(_trimmed(used, supply)), tuple(singles), tuple(gangs))


def _trimmed(used: list[Used], spare: Counter[int]) -> list[Used]:
    """Take spare pods out of the fillings again; prices of shortened fillings are settled by ``extend``."""
    kept: list[Used] = []
    for use in used:
        for _ in range(use.count):
            filling = list(use.filling)
            for shape in reversed(use.filling):
                if spare[shape] > 0:
                    spare[shape] -= 1
                    filling.remove(shape)
            if filling:
                kept.append(Used(use.node, tuple(filling), use.price))
    return kept


def _answer(
    problem: PlanProblem,
    best: Placing,
    first: Placing,
    weights: tuple[float, ...],
    made: Generated | None,
    worth: float,
    status: str,
) -> PlanAnswer:
    placed = best.placed(problem)
    return PlanAnswer(
        best,
        worth,
        worth,
        placed,
        placed,
        best.price,
        best.price,
        worth,
        first.price,
        first.placed(problem),
        0 if made is None else made.rounds,
        0,
        status,
    )
