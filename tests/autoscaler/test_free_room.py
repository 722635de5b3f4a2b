"""The room that is counted is the room that the scheduler gives: compared with placing pods one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoscaler.free_room import FreeRoom
from autoscaler.placeable import ReplicaShape
from cluster.wire import Node, Pod
from scheduler.demand import Demand, parse_demand
from scheduler.fleet import Fleet
from scheduler.planner.admission import Constraints
from tests.scheduler.fleet_objects import Setting, node, pod, slices

ANYWHERE = Constraints((), None, (), False)


def anywhere(setting: Setting, rows: NDArray[np.bool_] | None = None) -> FreeRoom:
    size = setting.fleet.size
    return FreeRoom(setting.decider, lambda _: np.ones(size, dtype=np.bool_) if rows is None else rows)


def of(setting: Setting, one: Pod) -> ReplicaShape:
    facts = setting.fleet.facts
    demand = parse_demand(one, facts, facts.classes)
    assert demand is not None
    return ReplicaShape(demand, ANYWHERE)


def placed_one_by_one(setting: Setting, demand: Demand, most: int) -> int:
    """What the scheduler itself does: the cheapest node, its room held, until none is left. Reservations of
    pods not seen yet are replayed by name, so the copies are named to come last.
    """
    for count in range(most):
        row = setting.decider.place(demand)
        if row is None:
            return count
        setting.fleet.reserve(f"z-copy-{count:02d}", row, demand, setting.now + 1e6)
    return most


def hosts(name: str, gpus: int, cpu: str = "32") -> Node:
    return node(name, allocatable={"nvidia.com/gpu": str(gpus), "cpu": cpu, "memory": "256Gi"})


ONE_GPU = {"nvidia.com/gpu": "1"}


@settings(max_examples=40, deadline=None)
@given(
    free=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    bound=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2)), max_size=5),
    gpus=st.integers(1, 3),
    most=st.integers(1, 12),
)
def test_whole_gpus_are_counted_as_the_scheduler_places_them(
    free: list[int], bound: list[tuple[int, int]], gpus: int, most: int
):
    fleet = Fleet()
    for index, count in enumerate(free):
        fleet.apply_node(hosts(f"n{index}", count))
    for index, (where, count) in enumerate(bound):
        if where < len(free):
            fleet.apply_pod(pod(f"p{index}", {"nvidia.com/gpu": count}, on=f"n{where}", phase="Running"))
    setting = Setting(fleet)
    shape = of(setting, pod("new", {"nvidia.com/gpu": gpus}))
    counted = anywhere(setting).take(shape, most)
    assert counted == placed_one_by_one(setting, shape.demand, most)


@settings(max_examples=25, deadline=None)
@given(
    nodes=st.integers(1, 3),
    before=st.lists(st.sampled_from(["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb"]), max_size=6),
    profile=st.sampled_from(["1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb"]),
    most=st.integers(1, 20),
)
def test_mig_instances_are_counted_as_the_allocator_cuts_them(
    nodes: int, before: list[str], profile: str, most: int
):
    fleet = Fleet()
    for index in range(nodes):
        fleet.apply_node(node(f"n{index}", labels={"kubernetes.io/hostname": f"n{index}"}))
        for one in slices(f"n{index}"):
            fleet.apply_slice(one)
    setting = Setting(fleet)
    for index, name in enumerate(before):
        earlier = of(setting, pod(f"p{index}", {f"nvidia.com/mig-{name}": 1})).demand
        row = setting.decider.place(earlier)
        if row is not None:
            fleet.reserve(f"held-{index}", row, earlier, setting.now + 1e6)
    shape = of(setting, pod("new", {f"nvidia.com/mig-{profile}": 1}))
    counted = anywhere(setting).take(shape, most)
    assert counted == placed_one_by_one(setting, shape.demand, most)


def test_cpu_and_memory_bound_the_count():
    fleet = Fleet()
    fleet.apply_node(hosts("n0", 8, cpu="10"))
    setting = Setting(fleet)
    shape = of(setting, pod("new", {"nvidia.com/gpu": 1, "cpu": "4"}))
    assert anywhere(setting).take(shape, 8) == 2


def test_only_nodes_that_admit_the_pod_count():
    fleet = Fleet()
    fleet.apply_node(hosts("n0", 2))
    fleet.apply_node(hosts("n1", 2))
    setting = Setting(fleet)
    shape = of(setting, pod("new", ONE_GPU))
    only = np.zeros(fleet.size, dtype=np.bool_)
    only[fleet.rows["n1"]] = True
    assert anywhere(setting, only).take(shape, 8) == 2


def test_what_one_shape_took_is_gone_for_another():
    fleet = Fleet()
    fleet.apply_node(hosts("n0", 4))
    setting = Setting(fleet)
    room = anywhere(setting)
    assert room.take(of(setting, pod("small", ONE_GPU)), 1) == 1
    assert room.take(of(setting, pod("large", {"nvidia.com/gpu": "4"})), 1) == 0
    assert room.take(of(setting, pod("middle", {"nvidia.com/gpu": "2"})), 5) == 1
    assert room.take(of(setting, pod("small", ONE_GPU)), 5) == 1


def test_a_workload_takes_one_node_before_it_begins_the_next():
    fleet = Fleet()
    fleet.apply_node(hosts("n0", 4))
    fleet.apply_node(hosts("n1", 4))
    setting = Setting(fleet)
    room = anywhere(setting)
    assert room.take(of(setting, pod("small", ONE_GPU)), 4) == 4
    assert room.take(of(setting, pod("large", {"nvidia.com/gpu": "4"})), 2) == 1


def test_a_fleet_without_nodes_holds_nothing():
    setting = Setting(Fleet())
    assert anywhere(setting).take(of(setting, pod("new", ONE_GPU)), 3) == 0
