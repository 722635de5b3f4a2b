"""Batch jobs for the replay: families of recurring jobs, most alike from run to run, none exactly.

Arrivals are uniform over the span; a job belongs to one of ``FAMILIES`` families, each with a GPU count and a
usual duration (log-normal, median two hours, 0.3 to 8). A run differs from its family's usual duration by a
log-normal factor (sigma 0.15). Families with an odd number declare their usual duration, the others declare
nothing: it has to be learned. Deterministic by seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from autoscaler.batch.curve import DAY_SECONDS, HOUR_SECONDS

FAMILIES: Final = 25
GPU_COUNTS: Final = (1, 2, 4, 8)
GPU_SHARES: Final = (0.5, 0.2, 0.2, 0.1)
MEDIAN_HOURS: Final = 2.0
SPREAD: Final = 0.6
RUN_SPREAD: Final = 0.15
SHORTEST_HOURS: Final = 0.3
LONGEST_HOURS: Final = 8.0


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One job as it will be: ``arrived_seconds`` since the start of the span, ``seconds`` it really takes,
    ``declared_seconds`` what it says (None: nothing).
    """

    key: str
    family: str
    gpus: float
    arrived_seconds: float
    window_seconds: float
    seconds: float
    declared_seconds: float | None


def batch_runs(jobs: int, days: float, window_hours: float, seed: int) -> list[BatchRun]:
    """Draw the jobs of one replay, by arrival."""
    random = np.random.default_rng(seed)
    usual = np.exp(random.normal(np.log(MEDIAN_HOURS), SPREAD, FAMILIES))
    usual = np.clip(usual, SHORTEST_HOURS, LONGEST_HOURS) * HOUR_SECONDS
    sizes = random.choice(GPU_COUNTS, FAMILIES, p=GPU_SHARES)
    arrived = np.sort(random.uniform(0.0, days * DAY_SECONDS, jobs))
    family = random.integers(0, FAMILIES, jobs)
    seconds = usual[family] * np.exp(random.normal(0.0, RUN_SPREAD, jobs))
    return [
        BatchRun(
            key=f"job-{index}",
            family=f"family-{family[index]}",
            gpus=float(sizes[family[index]]),
            arrived_seconds=float(arrived[index]),
            window_seconds=window_hours * HOUR_SECONDS,
            seconds=float(seconds[index]),
            declared_seconds=float(usual[family[index]]) if family[index] % 2 else None,
        )
        for index in range(jobs)
    ]
