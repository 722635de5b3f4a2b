"""Choose among the fillings: the integer master of a plan, by CP-SAT.

    max  Σ rank·placed − price     rank: lexicographic by level, one pod above all prices together

in whole numbers (prices in parts of 10,000), one worker and a fixed seed, so that the same problem gives the
same plan unless the time ran out; deterministic time bounds the search beside the wall clock. It starts from
a known plan and answers None unless it found one at least as good. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from ortools.sat.python import cp_model

from scheduler.packing.plan_columns import Column
from scheduler.packing.plan_problem import NO_QUOTA, Placing, PlanProblem, Used

PARTS = 10_000
_MOST = 1 << 52


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plan out of the columns; ``proved``: no better one exists among them."""

    placing: Placing
    proved: bool


def choose(
    problem: PlanProblem,
    columns: list[Column],
    start: Placing,
    start_columns: dict[int, int],
    *,
    seconds: float,
    seed: int,
) -> Chosen | None:
    """Solve the integer master. ``start_columns``: column → nodes using it in ``start``."""
    model = cp_model.CpModel()
    demand = problem.demand()
    uses = [
        model.new_int_var(0, _most_uses(problem, column, demand), f"x{index}")
        for index, column in enumerate(columns)
    ]
    singles = [model.new_int_var(0, entry.count, "z") for entry in problem.wanted]
    gangs = [model.new_bool_var("y") for _ in problem.gangs]
    by_node: dict[int, list[int]] = {}
    takes: list[list[tuple[int, int]]] = [[] for _ in range(problem.shapes)]
    for index, column in enumerate(columns):
        by_node.setdefault(column.node, []).append(index)
        for shape, count in column.pods:
            takes[shape].append((index, count))
    for node, own in by_node.items():
        model.add(sum(uses[index] for index in own) <= problem.nodes[node].count)
    for shape in range(problem.shapes):
        wants = [part for part, entry in zip(singles, problem.wanted, strict=True) if entry.shape == shape]
        wants += [
            part * count
            for part, gang in zip(gangs, problem.gangs, strict=True)
            for own, count in gang.members
            if own == shape
        ]
        model.add(sum(uses[index] * count for index, count in takes[shape]) == sum(wants))
    _quotas(model, problem, singles, gangs)
    ranks = _ranks(problem, columns)
    model.maximize(
        sum(ranks[entry.level] * part for entry, part in zip(problem.wanted, singles, strict=True))
        + sum(ranks[gang.level] * gang.size * part for gang, part in zip(problem.gangs, gangs, strict=True))
        - sum(round(column.price * PARTS) * use for column, use in zip(columns, uses, strict=True))
    )
    for index, use in enumerate(uses):
        model.add_hint(use, start_columns.get(index, 0))
    for part, number in zip(singles, start.singles, strict=True):
        model.add_hint(part, number)
    for gang_part, chosen in zip(gangs, start.gangs, strict=True):
        model.add_hint(gang_part, chosen)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_time_in_seconds = max(0.05, seconds)
    solver.parameters.linearization_level = 2
    solver.parameters.relative_gap_limit = 0.0
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    used = tuple(
        Used(column.node, column.filling, column.price, int(solver.value(use)))
        for column, use in zip(columns, uses, strict=True)
        if solver.value(use)
    )
    placing = Placing(
        used,
        tuple(int(solver.value(part)) for part in singles),
        tuple(bool(solver.value(part)) for part in gangs),
    )
    return Chosen(placing, status == cp_model.OPTIMAL)


def _most_uses(problem: PlanProblem, column: Column, demand: list[int]) -> int:
    return min(problem.nodes[column.node].count, *(demand[shape] // count for shape, count in column.pods))


def _quotas(
    model: cp_model.CpModel,
    problem: PlanProblem,
    singles: list[cp_model.IntVar],
    gangs: list[cp_model.IntVar],
) -> None:
    for quota, cap in enumerate(problem.quotas):
        used = [
            part * round(problem.gpus[entry.shape] * 1000)
            for part, entry in zip(singles, problem.wanted, strict=True)
            if entry.quota == quota != NO_QUOTA
        ]
        used += [
            part * round(1000 * sum(problem.gpus[shape] * count for shape, count in gang.members))
            for part, gang in zip(gangs, problem.gangs, strict=True)
            if gang.quota == quota != NO_QUOTA
        ]
        if used:
            model.add(sum(used) <= round(cap * 1000))


def _ranks(problem: PlanProblem, columns: list[Column]) -> list[int]:
    """One pod of a level against everything below it; capped where 64 bits would not hold more."""
    totals = [0] * problem.levels
    for entry in problem.wanted:
        totals[entry.level] += entry.count
    for gang in problem.gangs:
        totals[gang.level] += gang.size
    pods = sum(totals)
    dearest = max((abs(column.price) / sum(n for _, n in column.pods) for column in columns), default=0.0)
    ranks = [1 + 2 * pods * (1 + round(dearest * PARTS))]
    for level in range(1, problem.levels):
        ranks.append(min(ranks[-1] * (1 + totals[level - 1]), _MOST // max(1, pods)))
    return ranks
