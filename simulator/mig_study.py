"""A study of MIG placement: every policy on the same arrivals of every seed, one process a run when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass

from simulator.mig_arrivals import draw
from simulator.mig_grid import Grid, StudyRefused, card_space, full_name, mig_model
from simulator.mig_policy import Fleet
from simulator.mig_registry import MIG_POLICIES, policies_for
from simulator.mig_run import MigRun, run
from simulator.workers import workers

FIRST_SEED = 42

Job = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is studied. ``profiles`` are full names with their ``weights``; ``refusing``: without a queue."""

    model: str
    nodes: int
    gpus: int
    jobs: int
    profiles: tuple[str, ...]
    weights: tuple[float, ...]
    load: float
    grid: Grid
    refusing: bool = False


@dataclass(frozen=True, slots=True)
class MigStudy:
    """``runs`` by policy, in the order of ``seeds``."""

    setting: Setting
    seeds: tuple[int, ...]
    runs: dict[str, list[MigRun]]


def setting(
    *, model: str, nodes: int, gpus: int, jobs: int, mix: dict[str, float], load: float, grid: Grid
) -> Setting:
    """A setting with the mix's names spelled out, small profiles first. Raises StudyRefused."""
    found = mig_model(model)
    named: dict[str, float] = {}
    for name, weight in mix.items():
        profile = full_name(found, name)
        named[profile] = named.get(profile, 0.0) + weight
    order = [profile.name for profile in found.profiles if profile.name in named]
    sizes = {profile.name: (profile.compute_slices, profile.size) for profile in found.profiles}
    order.sort(key=lambda name: sizes[name])
    return Setting(model, nodes, gpus, jobs, tuple(order), tuple(named[name] for name in order), load, grid)


def study(
    asked: Setting,
    policies: Sequence[str],
    seeds: Sequence[int],
    *,
    processes: int = 1,
    done: Callable[[str, int], None] = lambda policy, seed: None,
) -> MigStudy:
    """Run ``policies`` (names of ``mig_registry``) over ``seeds``; ``done`` is told of each finished run.

    Raises StudyRefused for a policy that cannot place on the grid.
    """
    unfit = sorted(set(policies) - set(policies_for(policies, asked.grid)))
    if unfit:
        raise StudyRefused(
            f"--policy: got {', '.join(unfit)} on the {asked.grid} grid: placed by the product's own code, "
            "which knows the hardware's; leave them out or take --grid memory"
        )
    jobs = [(policy, seed) for policy in policies for seed in seeds]
    found: dict[Job, MigRun] = {}
    for job, result in _in_pool(asked, jobs, processes) if processes > 1 else _in_turn(asked, jobs):
        found[job] = result
        done(*job)
    return MigStudy(
        asked, tuple(seeds), {policy: [found[policy, seed] for seed in seeds] for policy in policies}
    )


def one_run(asked: Setting, policy: str, seed: int) -> MigRun:
    """One policy on the arrivals of one seed."""
    space = card_space(mig_model(asked.model), asked.profiles, asked.grid)
    fleet = Fleet(space, asked.nodes, asked.gpus)
    arrivals = draw(
        asked.weights,
        space.compute_slices,
        capacity=len(fleet.states) * space.model.compute_slices,
        load=asked.load,
        jobs=asked.jobs,
        seed=seed,
    )
    policy_of_run = MIG_POLICIES[policy](asked.weights, seed)
    return run(fleet, arrivals, policy_of_run, refusing=asked.refusing)


def _in_turn(asked: Setting, jobs: list[Job]) -> Iterator[tuple[Job, MigRun]]:
    for job in jobs:
        yield job, one_run(asked, *job)


def _in_pool(asked: Setting, jobs: list[Job], processes: int) -> Iterator[tuple[Job, MigRun]]:
    with workers(processes) as pool:
        waiting = {pool.submit(one_run, asked, *job): job for job in jobs}
        for finished in as_completed(waiting):
            yield waiting[finished], finished.result()
