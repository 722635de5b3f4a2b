"""What an autoscaling study says: JSON and table.

    {"trace", "startup_seconds", "hours", "seeds", "faults",
     "policies": {NAME: {"frontier": [{"target", "slo_attainment", "gpu_hours", "reversals_per_hour",
                                       "wasted_gpu_hours", ...}],
                         "at_slo": {"0.99": {"gpu_hours"} or null}, "default": {…}}}}

Means over seeds, with the range of attainment and GPU-hours beside. ``at_slo`` is what a policy costs at an
attainment with its best target chosen by hindsight: the least GPU-hours of a swept target that attains it, or
between two neighbouring targets, one that does and one that does not, the cost on the straight line between
them. null where no target attains it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from simulator.autoscaling_registry import AUTOSCALERS
from simulator.autoscaling_run import Outcome
from simulator.autoscaling_study import Study

OBJECTIVE = 0.99


def as_json(study: Study) -> dict[str, Any]:
    """The study of one start-up time as JSON-ready values."""
    return {
        "trace": study.trace,
        "startup_seconds": _short(study.startup_seconds),
        "hours": round(study.hours, 3),
        "seeds": len(study.seeds),
        "faults": list(study.faults),
        "policies": {name: _policy(name, by_target) for name, by_target in study.outcomes.items()},
    }


def _policy(name: str, by_target: Mapping[float, Outcome]) -> dict[str, Any]:
    ships = AUTOSCALERS[name].ships
    cost = cost_at(by_target, OBJECTIVE)
    return {
        "frontier": [_point(target, outcome) for target, outcome in by_target.items()],
        "at_slo": {f"{OBJECTIVE:g}": None if cost is None else {"gpu_hours": round(cost, 3)}},
        "default": _point(ships, by_target[ships]),
    }


def _point(target: float, outcome: Outcome) -> dict[str, Any]:
    return {
        "target": target,
        "slo_attainment": round(float(outcome.attainment.mean()), 5),
        "gpu_hours": round(float(outcome.gpu_hours.mean()), 3),
        "reversals_per_hour": round(float(outcome.reversals_per_hour.mean()), 3),
        "wasted_gpu_hours": round(float(outcome.wasted_gpu_hours.mean()), 4),
        "killed_before_serving": round(float(outcome.killed_before_serving.mean()), 2),
        "recovery_seconds": round(float(np.median(outcome.recovery_seconds)), 1),
        "slo_attainment_range": [round(float(end), 5) for end in _ends(outcome.attainment)],
        "gpu_hours_range": [round(float(end), 3) for end in _ends(outcome.gpu_hours)],
    }


def _ends(values: Any) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def cost_at(by_target: Mapping[float, Outcome], attainment: float) -> float | None:
    """GPU-hours at ``attainment`` (a share) along the sweep; None where no target reaches it."""
    points = [
        (float(outcome.attainment.mean()), float(outcome.gpu_hours.mean()))
        for _, outcome in sorted(by_target.items())
    ]
    costs = [cost for reached, cost in points if reached >= attainment]
    for (reached, cost), (other, other_cost) in pairwise(points):
        if (reached >= attainment) != (other >= attainment):
            share = (attainment - reached) / (other - reached)
            costs.append(cost + share * (other_cost - cost))
    return min(costs, default=None)


def as_rows(study: Study) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table: cheapest at the objective first, those that miss it last."""
    rows: list[tuple[float, tuple[str, ...]]] = []
    for name, by_target in study.outcomes.items():
        cost, shipped = cost_at(by_target, OBJECTIVE), by_target[AUTOSCALERS[name].ships]
        row = (
            name,
            "-" if cost is None else f"{cost:.1f}",
            f"{100.0 * shipped.attainment.mean():.2f}",
            f"{shipped.gpu_hours.mean():.1f}",
            f"{shipped.reversals_per_hour.mean():.1f}",
            f"{shipped.wasted_gpu_hours.mean():.2f}",
            f"{np.median(shipped.recovery_seconds):.0f}",
        )
        rows.append((float("inf") if cost is None else cost, row))
    header = (
        "POLICY",
        f"GPU-H AT {100.0 * OBJECTIVE:g} %",
        "AS SHIPPED: SLO %",
        "GPU-H",
        "REVERSALS/H",
        "WASTED GPU-H",
        "WORST SPELL S",
    )
    return header, [row for _, row in sorted(rows, key=lambda item: item[0])]


def _short(seconds: float) -> float | int:
    return int(seconds) if float(seconds).is_integer() else seconds
