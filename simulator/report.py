"""What a packing study says: per policy the mean and spread over seeds, beside the bound; JSON and table.

    {"trace", "seeds", "bound": {"unallocated_percent"},
     "policies": {NAME: {"unallocated_percent": {"mean", "sd"}, "moved_percent"}}}

``sd`` is the population standard deviation, as in the published figures. ``moved_percent``: moves of placed
pods per 100 pods placed, mean over seeds. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.bound import Bound
from simulator.packing_run import RunResult

ARRIVED_PERCENT = 100
BASELINE = "fgd"


@dataclass(frozen=True, slots=True)
class Study:
    """One trace: ``runs`` by policy and ``bounds``, both in the order of ``seeds``."""

    trace: str
    seeds: tuple[int, ...]
    runs: Mapping[str, Sequence[RunResult]]
    bounds: Sequence[Bound]


def as_json(study: Study) -> dict[str, Any]:
    """The study as JSON-ready values; percentages rounded to 1/1000."""
    policies = {}
    for name, runs in study.runs.items():
        left = [_left(run) for run in runs]
        policies[name] = {
            "unallocated_percent": {"mean": round(_mean(left), 3), "sd": round(float(np.std(left)), 3)},
            "moved_percent": round(_mean([run.moved_percent for run in runs]), 3),
        }
    return {
        "trace": study.trace,
        "seeds": len(study.seeds),
        "bound": {"unallocated_percent": round(bound_percent(study), 3)},
        "policies": policies,
    }


def bound_percent(study: Study) -> float:
    """Mean over seeds of the least any policy can leave."""
    return _mean([found.unallocated_percent for found in study.bounds])


def closed_percent(study: Study, policy: str, baseline: str = BASELINE) -> float | None:
    """The share of the baseline's distance to the bound that ``policy`` closes; None where either was not
    run or there is no distance.
    """
    if policy == baseline or policy not in study.runs or baseline not in study.runs:
        return None
    start = _mean([_left(run) for run in study.runs[baseline]])
    room = start - bound_percent(study)
    gained = start - _mean([_left(run) for run in study.runs[policy]])
    return 100.0 * gained / room if room > 0.0 else None


def curve(runs: Sequence[RunResult]) -> dict[int, float]:
    """Mean allocation, % of all GPUs, at each whole % arrived that every run reached."""
    stacked = np.array([run.allocated_percent for run in runs])
    seen = np.flatnonzero(np.isfinite(stacked).all(axis=0))
    return {percent: float(stacked[:, percent].mean()) for percent in seen.tolist()}


def as_rows(study: Study) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table, best policy first, the bound on every line."""
    limit = f"{bound_percent(study):.2f}"
    rows: list[tuple[str, ...]] = []
    left = {name: [_left(run) for run in runs] for name, runs in study.runs.items()}
    for name in sorted(left, key=lambda name: (_mean(left[name]), name)):
        closed = closed_percent(study, name)
        runs = study.runs[name]
        rows.append(
            (
                name,
                f"{_mean(left[name]):.2f}",
                f"{np.std(left[name]):.2f}",
                "-" if closed is None else f"{closed:.0f}",
                f"{_mean([run.moved_percent for run in runs]):.1f}",
                f"{_mean([run.seconds for run in runs]):.1f}",
                limit,
            )
        )
    return ("POLICY", "UNALLOCATED %", "SD", "CLOSED %", "MOVED %", "SECONDS", "BOUND %"), rows


def _left(run: RunResult) -> float:
    return run.unallocated_at(ARRIVED_PERCENT)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
