"""A study of one trace: every policy on the same arrivals of every seed, one process a run when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager

from simulator.bound import bound
from simulator.cluster_state import ClusterState
from simulator.openb import NodeShape, Trace, arrivals, in_run_order
from simulator.packing_run import RunResult, run
from simulator.registry import POLICIES
from simulator.report import Study
from simulator.workers import workers

FIRST_SEED = 42

Job = tuple[str, int]


def study(
    nodes: Sequence[NodeShape],
    trace: Trace,
    policies: Sequence[str],
    seeds: Sequence[int],
    *,
    processes: int = 1,
    until_percent: float = 100.5,
    done: Callable[[str, int], None] = lambda policy, seed: None,
    with_bound: bool = True,
) -> Study:
    """Run ``policies`` (names of ``registry``) over ``seeds``; ``done`` is told of each finished run.
    ``with_bound`` False leaves the bounds out.
    """
    ordered = in_run_order(nodes)
    jobs = [(policy, seed) for seed in seeds for policy in policies]
    found: dict[Job, RunResult] = {}
    with _runner(processes) as start:
        for job, result in start(ordered, trace, jobs, until_percent):
            found[job] = result
            done(*job)
    capacity = ClusterState(ordered).capacity_milli
    bounded = seeds if with_bound else ()
    return Study(
        trace=trace.name,
        seeds=tuple(seeds),
        runs={policy: [found[policy, seed] for seed in seeds] for policy in policies},
        bounds=[bound(ordered, trace.shapes, arrivals(trace, capacity, seed)) for seed in bounded],
    )


def one_run(
    nodes: tuple[NodeShape, ...], trace: Trace, policy: str, seed: int, until_percent: float
) -> RunResult:
    """One policy on the arrivals of one seed; ``nodes`` in the order that breaks ties."""
    state = ClusterState(nodes)
    order = arrivals(trace, state.capacity_milli, seed)
    return run(state, POLICIES[policy](state, trace, seed), trace.shapes, order, until_percent=until_percent)


_Start = Callable[[tuple[NodeShape, ...], Trace, list[Job], float], Iterator[tuple[Job, RunResult]]]


@contextmanager
def _runner(processes: int) -> Iterator[_Start]:
    if processes <= 1:
        yield _in_turn
        return
    with workers(processes) as pool:

        def start(
            nodes: tuple[NodeShape, ...], trace: Trace, jobs: list[Job], until_percent: float
        ) -> Iterator[tuple[Job, RunResult]]:
            waiting = {pool.submit(one_run, nodes, trace, *job, until_percent): job for job in jobs}
            for finished in as_completed(waiting):
                yield waiting[finished], finished.result()

        yield start


def _in_turn(
    nodes: tuple[NodeShape, ...], trace: Trace, jobs: list[Job], until_percent: float
) -> Iterator[tuple[Job, RunResult]]:
    for job in jobs:
        yield job, one_run(nodes, trace, *job, until_percent)
