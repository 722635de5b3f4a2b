"""A study of one trace: every policy at every target on the same arrivals, by start-up time.

All runs on one trace go through time together (``autoscaling_run``), the start-up times beside one another: a
step costs hardly more for many runs than for few. ``studies`` takes several traces at once, in processes of
their own when asked; a single trace is then divided by start-up time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

import numpy as np

from simulator.autoscaling_demand import Demand, demand_of
from simulator.autoscaling_faults import Faults
from simulator.autoscaling_fleet import Fleet
from simulator.autoscaling_policies.fixed import Static
from simulator.autoscaling_policies.hpa import HpaInFlight
from simulator.autoscaling_policy import Bounds
from simulator.autoscaling_registry import AUTOSCALERS, Setting
from simulator.autoscaling_run import Outcome, Steered, first_replicas, simulate
from simulator.autoscaling_server import ServerModel
from simulator.autoscaling_trace import Trace
from simulator.workers import workers

FIRST_SEED = 42
# maxReplicas: so many times what the peak needs, for every policy alike, as a careful operator sets it.
MOST_OF_PEAK = 2.0
LEAST_MOST = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """What to study. ``targets``: those of each policy, ascending."""

    trace: Trace
    server: ServerModel
    targets: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    faults: tuple[str, ...] = ()
    metric_delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Study:
    """One start-up time: by policy the outcomes at each of its targets (a value a seed in each)."""

    trace: str
    startup_seconds: float
    hours: float
    seeds: tuple[int, ...]
    faults: tuple[str, ...]
    outcomes: Mapping[str, Mapping[float, Outcome]]


def targets_of(policies: Sequence[str], *, sweep: bool = True) -> dict[str, tuple[float, ...]]:
    """The targets of ``policies`` as registered; without ``sweep`` the shipped ones alone."""
    return {name: AUTOSCALERS[name].targets if sweep else (AUTOSCALERS[name].ships,) for name in policies}


def study(
    asked: Asked,
    startups_seconds: Sequence[float],
    *,
    processes: int = 1,
    done: Callable[[float], None] = lambda startup: None,
) -> list[Study]:
    """Run every start-up time, in the order given; ``done`` is told of each when it and those before are
    finished.
    """
    found = []
    for one in studies([(asked, startup) for startup in startups_seconds], processes=processes):
        found.append(one)
        done(one.startup_seconds)
    return found


def studies(batches: Sequence[tuple[Asked, float]], *, processes: int = 1) -> Iterator[Study]:
    """Run every (what to study, start-up time); give the studies in the same order, each as soon as may be.

    Start-up times of one trace that follow one another go through time together, unless there are
    ``processes`` left over. The batches are begun in order: the shortest had better come last.
    """
    jobs = [
        (same[0][0], tuple(startup for _, startup in same))
        for same in (list(group) for _, group in groupby(batches, key=lambda batch: id(batch[0])))
    ]
    if len(jobs) < processes:
        jobs = [(asked, (startup,)) for asked, startup in batches]
    if processes <= 1 or len(jobs) == 1:
        for asked, startups in jobs:
            yield from _drawn(asked, startups)
        return
    with workers(min(processes, len(jobs))) as pool:
        waiting = [pool.submit(_drawn, asked, startups) for asked, startups in jobs]
        try:
            for job in waiting:
                yield from job.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _drawn(asked: Asked, startups: tuple[float, ...]) -> list[Study]:
    return together(asked, demand_of(asked.trace, asked.server, asked.seeds), startups)


def bounds_of(demand: Demand, server: ServerModel) -> Bounds:
    """Bounds that are the same for every policy."""
    most = int(np.ceil(MOST_OF_PEAK * demand.needed.max() / server.slots))
    return Bounds(1, max(LEAST_MOST, most), server.slots)


def together(asked: Asked, demand: Demand, startups: Sequence[float]) -> list[Study]:
    """Every policy, start-up time, target and seed in one go through time; a study a start-up time."""
    bounds = bounds_of(demand, asked.server)
    columns = len(asked.seeds)
    start = [first_replicas(demand, bounds, startup) for startup in startups]
    steered, rows, first = [], [], []
    begins = 0
    for name, targets in asked.targets.items():
        of_run = np.tile(np.repeat(np.array(targets), columns), len(startups))
        seeds = np.tile(np.arange(columns), len(targets) * len(startups))
        policy = AUTOSCALERS[name].make(
            Setting(bounds, asked.server, demand, seeds, of_run, np.repeat(startups, len(targets) * columns))
        )
        steered.append(Steered(policy, begins, len(of_run)))
        rows.append(seeds)
        usual = np.concatenate([np.tile(replicas, len(targets)) for replicas in start])
        first.append(policy.replicas if isinstance(policy, Static) else usual)
        begins += len(of_run)
    row = np.concatenate(rows)
    startup_of = np.concatenate([np.repeat(startups, one.runs // len(startups)) for one in steered])
    faults = Faults.at_peak(asked.faults, demand)
    shipped = np.full(len(row), AUTOSCALERS["hpa-inflight"].ships)
    outcome = simulate(
        demand,
        asked.server,
        Fleet(demand, asked.server, row, startup_of, np.concatenate(first)),
        steered,
        faults,
        metric_delay_seconds=asked.metric_delay_seconds,
        second_writer=HpaInFlight(bounds, shipped) if "second-writer" in asked.faults else None,
    )
    found = []
    for which, startup in enumerate(startups):
        outcomes = {
            name: {
                target: _part(outcome, one.first + (which * len(targets) + place) * columns, columns)
                for place, target in enumerate(targets)
            }
            for (name, targets), one in zip(asked.targets.items(), steered, strict=True)
        }
        found.append(Study(demand.name, startup, demand.hours, asked.seeds, asked.faults, outcomes))
    return found


def _part(outcome: Outcome, first: int, count: int) -> Outcome:
    return Outcome(*(getattr(outcome, field.name)[first : first + count] for field in fields(Outcome)))
