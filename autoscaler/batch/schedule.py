"""When each held job starts: the cheapest hours that its deadline, its error margin and the GPUs allow.

``schedule`` is the one pure entry. A job's latest start leaves room for its longest run and the wait for GPUs
(``durations``). What cannot meet that any more goes at once. What finds no room before it goes at its latest
start: let go sooner it would only compete with what is more urgent; only a job that the GPUs could never hold
goes at once. The others get the cheapest starts that together fit the GPUs: each its own best if that fits
(then nothing is better), else what relaxation, rounding and CP-SAT find (``contention``, ``solve``). Planned
anew every few minutes, so a job is released when the present has become its best time, and an error of the
forecast costs carbon, never a deadline.

Model: time-indexed scheduling with release by deadline; as in Wiesner et al., "Let's Wait Awhile" (Middleware
2021), with capacity. Reads no clock, releases nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from autoscaler.batch.candidates import SLOT_SECONDS, Candidates, Forecasts, candidates
from autoscaler.batch.contention import Chosen, by_orders, fits_together, room
from autoscaler.batch.solve import solve
from autoscaler.batch.work import HeldJob, Method, Plan, Pool, Start

DEFAULT_EFFORT: Final = 1.0
"""Deterministic seconds for CP-SAT; the same work on every machine."""
_NO_PRICES: Final[Forecasts] = {}


def schedule(
    jobs: Sequence[HeldJob],
    intensity_forecast: Forecasts,
    price_forecast: Forecasts,
    capacity: Sequence[Pool],
    now: float,
    *,
    carbon_tonne: float = 100.0,
    delay_hour: float = 0.0,
    effort: float = DEFAULT_EFFORT,
) -> Plan:
    """Plan the starts of ``jobs`` (keys differ). Forecasts by zone: g/kWh, money per kWh. ``effort`` 0 leaves
    the best of the simple orders.
    """
    late = [job for job in jobs if job.latest_start_seconds < now]
    timely = [job for job in jobs if job.latest_start_seconds >= now]
    choices = candidates(
        timely,
        intensity_forecast,
        price_forecast,
        capacity,
        now,
        carbon_tonne=carbon_tonne,
        delay_hour=delay_hour,
    )
    homeless = [choice for choice in choices if not choice.pools]
    choices = [choice for choice in choices if choice.pools]
    left = room(capacity, choices, now)
    method: Method = "separate"
    chosen: list[Chosen] = [choice.best for choice in choices]
    if not fits_together(choices, chosen, left):
        chosen, method = by_orders(choices, left), "greedy"
        if effort > 0.0:
            chosen, method = solve(choices, left, chosen, effort)
    starts = {job.key: Start(now, None, late=True) for job in late}
    starts |= {choice.job.key: Start(now, None, crowded=True) for choice in homeless}
    cost = 0.0
    for choice, pick in zip(choices, chosen, strict=True):
        if pick is None:
            # Let go now it would only compete with those that are more urgent.
            fits = choice.job.gpus <= float(left[list(choice.pools)].max(initial=0.0))
            at = choice.job.latest_start_seconds if fits else now
            starts[choice.job.key] = Start(at, None, crowded=True)
            continue
        row, slot = pick
        cost += float(choice.costs[row, slot])
        pool = capacity[choice.pools[row]].name
        starts[choice.job.key] = Start(now + SLOT_SECONDS * slot, pool)
    margins = {job.key: job.latest_start_seconds - starts[job.key].at_seconds for job in jobs}
    return Plan(starts, cost, margins, method)


def immediate_cost(choices: Sequence[Candidates]) -> float:
    """What it would cost to start every job now, at the cheapest pool, room or not."""
    return float(sum(np.min(choice.costs[:, 0]) for choice in choices if choice.pools))
