"""Replicas that start in a placeholder's room start sooner; what placeholders hold is counted."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.warm_policy import Placeholders
from simulator.autoscaling_demand import Demand, demand_of
from simulator.autoscaling_faults import Faults
from simulator.autoscaling_fleet import Fleet
from simulator.autoscaling_loads import steps
from simulator.autoscaling_policies.slicewise import Slicewise, policy_for
from simulator.autoscaling_run import Steered, first_replicas, simulate
from simulator.autoscaling_server import DEFAULT_MODEL, read_server
from simulator.autoscaling_study import bounds_of
from simulator.placeholder_fleet import PlaceholderFleet, SlicewiseWarm

SERVER = read_server(DEFAULT_MODEL)
NODE, COLD = 30.0, 10.0


@pytest.fixture(scope="module")
def demand() -> Demand:
    return demand_of(steps(7, 2.5), SERVER, (42, 43))


class Wish:
    """How many placeholders there shall be."""

    def __init__(self, runs: int, count: int = 0) -> None:
        self.count = np.full(runs, count)

    def __call__(self) -> np.ndarray:
        return self.count


def fleet_of(demand: Demand, wish: Wish, told: list[tuple[int, float]] | None = None) -> PlaceholderFleet:
    rows = np.arange(len(wish.count))
    notes = [] if told is None else told
    return PlaceholderFleet(
        demand,
        SERVER,
        rows,
        COLD,
        NODE,
        np.full(len(rows), 2),
        wish,
        lambda run, seconds: notes.append((run, seconds)),
    )


def steps_of(seconds: float, demand: Demand) -> int:
    return round(seconds / demand.step_seconds)


def test_a_replica_takes_the_room_of_a_placeholder_and_the_others_wait_for_a_node(demand: Demand):
    wish = Wish(2)
    told: list[tuple[int, float]] = []
    fleet = fleet_of(demand, wish, told)
    wish.count = np.array([1, 0])
    fleet.scale(0, 0, np.array([2, 2]))  # nothing but the placeholder
    node, cold = steps_of(NODE, demand), steps_of(COLD, demand)
    for step in range(1, node + 1):
        assert fleet.held.tolist() == [0, 0]
        assert fleet.asked.tolist() == [1, 0]
        fleet.step(step)
    assert (fleet.held.tolist(), fleet.asked.tolist()) == ([1, 0], [0, 0])
    wish.count = np.array([0, 0])
    at = node
    fleet.scale(at, 0, np.array([4, 4]))
    assert (fleet.held.tolist(), fleet.taken_room.tolist()) == ([0, 0], [1, 0])
    ready = []
    for step in range(at + 1, at + node + cold + 1):
        fleet.step(step)
        ready.append(fleet.ready.tolist())
    assert ready[cold - 2] == [2, 2]
    assert ready[cold - 1] == [3, 2]
    assert ready[node + cold - 2] == [3, 2]
    assert ready[node + cold - 1] == [4, 4]
    assert sorted(told) == [(0, COLD), (0, NODE + COLD), (1, NODE + COLD), (1, NODE + COLD)]


def test_what_placeholders_hold_counts_from_being_asked_for_to_being_let_go(demand: Demand):
    wish = Wish(2)
    fleet = fleet_of(demand, wish)
    wish.count = np.array([3, 0])
    fleet.scale(0, 0, np.array([2, 2]))
    for step in range(1, 11):
        fleet.step(step)
    wish.count = np.array([1, 0])
    fleet.scale(10, 0, np.array([2, 2]))
    for step in range(11, 21):
        fleet.step(step)
    assert fleet.held_gpu_seconds.tolist() == [(30 + 10) * demand.step_seconds, 0.0]
    wish.count = np.array([0, 0])
    for step in range(21, 21 + steps_of(NODE, demand)):
        fleet.step(step)
    assert fleet.held.tolist() == [1, 0]
    fleet.scale(step, 0, np.array([2, 2]))
    assert (fleet.held.tolist(), fleet.asked.tolist()) == ([0, 0], [0, 0])


def both(demand: Demand, most: int):
    """The same policy without placeholders, and with at most so many."""
    rows, bounds = np.arange(2), bounds_of(demand, SERVER)
    startup = np.full(2, NODE + COLD)
    first = first_replicas(demand, bounds, NODE + COLD)[rows]
    policies = [policy_for(bounds, 0.99, SERVER.ttft_seconds)] * 2
    none = Faults.at_peak((), demand)
    plain = Fleet(demand, SERVER, rows, startup, first.copy())
    without = simulate(demand, SERVER, plain, [Steered(Slicewise(policies, startup), 0, 2)], none)
    warm = SlicewiseWarm(policies, startup, Placeholders(most=most, node_seconds=NODE))
    held = PlaceholderFleet(demand, SERVER, rows, COLD, NODE, first.copy(), warm.wanted, warm.started)
    return without, simulate(demand, SERVER, held, [Steered(warm, 0, 2)], none), held


def test_without_any_placeholder_the_plant_is_the_plain_one(demand: Demand):
    without, with_none, held = both(demand, 0)
    assert held.held_gpu_seconds.tolist() == [0.0, 0.0]
    for name in ("attainment", "gpu_hours", "reversals_per_hour", "killed_before_serving"):
        assert getattr(without, name).tolist() == getattr(with_none, name).tolist()


def test_a_step_is_answered_sooner_with_placeholders_and_they_are_paid_for(demand: Demand):
    without, with_some, held = both(demand, 4)
    assert (held.taken_room > 0).all()
    assert (with_some.attainment > without.attainment).all()
    assert (held.held_gpu_seconds > 0.0).all()
