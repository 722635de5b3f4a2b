"""The arrivals of a MIG study: a Poisson stream of jobs with lognormal durations, profiles drawn from a mix.

Offered load = arrival rate × mean GPC-seconds of a job / (cards × GPCs of a card): at 1.0 the jobs bring, on
average, as much compute as the cards can do in the same time. Durations have median 600 s and σ 0.8 of the
logarithm (mean 826 s), MIGBench's values. A seed fixes everything, whatever policy or grid is studied; and at
two loads the same seed gives the same jobs, closer together or further apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.mig_grid import StudyRefused

MEDIAN_SECONDS = 600.0
SIGMA = 0.8
MEAN_SECONDS = MEDIAN_SECONDS * math.exp(SIGMA * SIGMA / 2.0)

_STREAM = 20260914  # keeps these draws apart from other users of the same seed


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Jobs in arrival order: when, which profile (index into the mix), how long. Seconds."""

    at: tuple[float, ...]
    profile: tuple[int, ...]
    seconds: tuple[float, ...]


def parse_mix(text: str) -> dict[str, float]:
    """ "1g:35,2g:25" as name → weight, in the order given. Raises StudyRefused."""
    mix: dict[str, float] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, _, number = part.rpartition(":")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or not math.isfinite(weight) or weight < 0.0:
            raise StudyRefused(f"--mix: got {part!r}, expected PROFILE:WEIGHT with a weight of 0 or more")
        if name in mix:
            raise StudyRefused(f"--mix: profile {name!r} is given twice, expected each once")
        mix[name] = weight
    if not sum(mix.values()):
        raise StudyRefused(f"--mix: got {text!r}, expected at least one profile with a weight above 0")
    return {name: weight for name, weight in mix.items() if weight > 0.0}


def draw(
    weights: Sequence[float],
    compute_slices: Sequence[int],
    *,
    capacity: int,
    load: float,
    jobs: int,
    seed: int,
) -> Arrivals:
    """``jobs`` jobs. ``weights`` and ``compute_slices``: one a profile; ``capacity``: compute slices of all
    cards.
    """
    share = np.array(weights, dtype=np.float64) / sum(weights)
    mean_slices = float(share @ np.array(compute_slices, dtype=np.float64))
    rate = load * capacity / (mean_slices * MEAN_SECONDS)
    source = np.random.default_rng([seed, _STREAM])
    gaps = source.exponential(1.0, jobs)
    profile = source.choice(len(share), jobs, p=share)
    seconds = MEDIAN_SECONDS * np.exp(SIGMA * source.standard_normal(jobs))
    return Arrivals(
        at=tuple((np.cumsum(gaps) / rate).tolist()),
        profile=tuple(profile.tolist()),
        seconds=tuple(seconds.tolist()),
    )
