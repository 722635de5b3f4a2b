"""Whether a plan keeps every rule: capacity, first-fit's devices, MIG states, gangs, quotas, demand.

Replays every filling from scratch. What breaks a rule is told in words; an empty answer means a sound plan.
The planner drops a plan that does not pass, and the property tests ask nothing else. Pure.
"""

from __future__ import annotations

from collections import Counter

from scheduler.packing.plan_problem import NO_QUOTA, Placing, PlanProblem
from scheduler.packing.plan_replay import Replay


def violations(problem: PlanProblem, placing: Placing) -> list[str]:
    """Every broken rule; prices are checked to a millionth."""
    found: list[str] = []
    replay = Replay(problem)
    supply: Counter[int] = Counter()
    nodes: Counter[int] = Counter()
    for use in placing.used:
        nodes[use.node] += use.count
        kept, filled = replay.fill(use.node, use.filling)
        if kept != use.filling:
            found.append(f"node class {use.node}: {use.filling} does not fit, only {kept} does")
        elif abs(filled.price - use.price) > 1e-6 * max(1.0, abs(use.price)):
            found.append(f"node class {use.node}: {use.filling} costs {filled.price}, not {use.price}")
        for shape in use.filling:
            supply[shape] += use.count
    for node, count in nodes.items():
        if count > problem.nodes[node].count:
            found.append(f"node class {node}: {count} of {problem.nodes[node].count} nodes used")
    placed: Counter[int] = Counter()
    quotas = [0.0] * len(problem.quotas)
    for entry, number in zip(problem.wanted, placing.singles, strict=True):
        placed[entry.shape] += number
        if not 0 <= number <= entry.count:
            found.append(f"{number} of {entry.count} pods of shape {entry.shape} placed")
        if entry.quota != NO_QUOTA:
            quotas[entry.quota] += number * problem.gpus[entry.shape]
    for gang, chosen in zip(problem.gangs, placing.gangs, strict=True):
        for shape, count in gang.members:
            placed[shape] += count * chosen
            if gang.quota != NO_QUOTA:
                quotas[gang.quota] += count * chosen * problem.gpus[shape]
    if +supply != +placed:
        found.append(f"fillings hold {dict(+supply)}, pods and gangs placed are {dict(+placed)}")
    for index, (used, cap) in enumerate(zip(quotas, problem.quotas, strict=True)):
        if used > cap + 1e-6:
            found.append(f"quota {index}: {used} of {cap} GPUs used")
    return found
