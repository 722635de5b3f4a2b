"""The fleet as a plan's problem: the same prices and devices as the decider's, merged, and back to names."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.demand import Demand, GpuRequest
from scheduler.fleet import Fleet
from scheduler.packing.plan_check import violations
from scheduler.packing.plan_replay import Replay
from scheduler.packing.plan_solve import solve_plan
from scheduler.planner.admission import Constraints
from scheduler.planner.batch import Batch
from scheduler.planner.chooser import DeciderChooser
from scheduler.planner.gangs import GangKey, GangUnit
from scheduler.planner.plan import adopt
from scheduler.planner.problem import Asked, snapshot
from scheduler.planner.queue import as_waiting
from scheduler.prediction import expected, predict
from tests.scheduler.fleet_objects import H100, Setting, node, pod, slices

GPU = "nvidia.com/gpu"
ANYWHERE = Constraints((), None, (), False)


def whole(count, **kind):
    return Demand((GpuRequest("whole", None, count),), **kind)


def mig(profile, count=1, **kind):
    return Demand((GpuRequest("mig", profile, count),), **kind)


DEMANDS = (whole(1), whole(2), mig("1g.10gb"), mig("3g.40gb"), mig("1g.10gb", 2), mig("2g.20gb"))


def fleet_of(*, plugin=3, ours=2, theirs=2, fixed=1):
    """Nodes of every regime."""
    fleet = Fleet()
    for index in range(plugin):
        fleet.apply_node(node(f"p{index}", allocatable={GPU: "4"}, product=H100))
    for index in range(fixed):
        fleet.apply_node(
            node(
                f"f{index}",
                allocatable={"nvidia.com/mig-1g.10gb": "7"},
                labels={"nvidia.com/mig.strategy": "mixed"},
            )
        )
    for kind, count in (("o", ours), ("t", theirs)):
        for index in range(count):
            name = f"{kind}{index}"
            fleet.apply_node(node(name))
            for item in slices(name, ours=kind == "o"):
                fleet.apply_slice(item)
    return fleet


def stated(setting, demands, *, gangs=0, gang_of=lambda index: -1, admitted=None):
    asked = [Asked(f"u{index}", demand, ANYWHERE, 0, gang_of(index)) for index, demand in enumerate(demands)]
    everywhere = np.ones(setting.fleet.size, dtype=np.bool_)
    return snapshot(setting.decider, asked, gangs, lambda _: everywhere if admitted is None else admitted)


def test_the_first_pod_costs_what_the_decider_says_everywhere():
    setting = Setting(fleet_of())
    made = stated(setting, DEMANDS)
    replay = Replay(made.problem)
    seen = 0
    for shape, demand in enumerate(DEMANDS):
        prices = setting.decider.prices(demand)
        for index, names in enumerate(made.rows):
            after = replay.add(index, replay.start(index), shape)
            for name in names:
                price = prices[setting.fleet.rows[name]]
                assert np.isfinite(price) == (after is not None)
                if after is not None:
                    assert after.price == pytest.approx(price, abs=1e-6)
                    seen += 1
    assert seen > 20


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(range(len(DEMANDS))), min_size=1, max_size=8))
def test_devices_go_where_the_product_predicts_along_any_sequence(sequence):
    setting = Setting(fleet_of(plugin=1, ours=1, theirs=1, fixed=0))
    fleet = setting.fleet
    made = stated(setting, DEMANDS)
    replay = Replay(made.problem)
    for index, names in enumerate(made.rows):
        row = fleet.rows[names[0]]
        state = replay.start(index)
        columns = fleet.view(np.array([row]))
        for shape in sequence:
            before = expected(columns)
            found = predict(columns, before, DEMANDS[shape], fleet.hardware, fleet.profiles)
            after = replay.add(index, state, shape)
            assert (after is not None) == bool(found.feasible[0])
            if after is None:
                continue
            taken = [int(mask).bit_count() for mask in found.after[0, : len(after.masks)]]
            # The device plugin may give other GPUs, never more of them.
            assert sorted(mask.bit_count() for mask in after.masks) == sorted(taken)
            columns.occupied[0, : len(after.masks)] = after.masks
            state = after


def test_equal_nodes_are_one_class_and_used_ones_another():
    fleet = fleet_of(plugin=5, ours=0, theirs=0, fixed=0)
    fleet.apply_pod(pod("r", {GPU: 1}, on="p3"))
    made = stated(Setting(fleet), [whole(1)] * 3)
    assert sorted(names for names in made.rows) == [("p0", "p1", "p2", "p4"), ("p3",)]
    assert made.problem.wanted[0].count == 3


def test_fixed_instances_and_models_are_told_apart():
    setting = Setting(fleet_of(plugin=1, ours=0, theirs=0, fixed=1))
    made = stated(setting, [mig("1g.10gb"), whole(1), whole(1, models=frozenset({"A100-80GB"}))])
    kinds = {names[0]: made.problem.kinds[made.problem.nodes[i].kind] for i, names in enumerate(made.rows)}
    fixed = kinds["f0"].needs[0]
    assert fixed is not None
    assert fixed.steps == ()
    assert fixed.scalars[0][1] == 1
    assert all(made.problem.nodes[i].other[2] is None for i in range(len(made.rows)))


def test_a_node_that_admits_nobody_is_left_out():
    setting = Setting(fleet_of(plugin=2, ours=0, theirs=0, fixed=0))
    admitted = np.array([name == "p1" for name in setting.fleet.names])
    made = stated(setting, [whole(1)], admitted=admitted)
    assert made.rows == (("p1",),)


def test_cpu_and_memory_limit_a_plan():
    fleet = Fleet()
    fleet.apply_node(node("p0", allocatable={GPU: "4", "cpu": "10", "memory": "64Gi"}, product=H100))
    demand = Demand((GpuRequest("whole", None, 1),), cpu_milli=4000, memory_mib=1024)
    made = stated(Setting(fleet), [demand] * 4)
    answer = solve_plan(made.problem, 1.0, time.monotonic)
    assert answer.placed == (2,)


def test_a_plan_comes_back_as_pods_and_nodes_each_once():
    setting = Setting(fleet_of())
    demands = [DEMANDS[index % len(DEMANDS)] for index in range(14)]
    made = stated(setting, demands, gangs=1, gang_of=lambda index: 0 if index in (0, 6) else -1)
    answer = solve_plan(made.problem, 2.0, time.monotonic)
    assert violations(made.problem, answer.placing) == []
    found = made.nodes_of(answer.placing)
    assert len(found) == sum(answer.placed) == len({uid for uid, _ in found})
    assert answer.placing.gangs == (True,)
    assert {"u0", "u6"} <= {uid for uid, _ in found}


def test_a_solved_batch_is_taken_up_by_the_chooser_and_its_room_held():
    setting = Setting(fleet_of(plugin=2, ours=0, theirs=0, fixed=0))
    chooser = DeciderChooser(setting.decider, lambda: setting.now)
    chooser.replaced([node(name, allocatable={GPU: "4"}, product=H100) for name in ("p0", "p1")])
    waiting = [as_waiting(pod(f"w{index}", {GPU: 2}), 0.0) for index in range(5)]
    gang = GangUnit(GangKey("default", "g", "label"), tuple(waiting[:3]))
    batch = Batch(tuple(waiting[3:]), (gang,))
    made = chooser.snapshot(batch)
    answer = solve_plan(made.problem, 1.0, time.monotonic)
    nodes = dict(made.nodes_of(answer.placing))
    plan = adopt(batch, nodes, chooser, 10.0)
    assert len(plan.nominations) == 4
    assert len(plan.unplaced) == 1
    assert {one.waiting.uid: one.node for one in plan.nominations} == nodes
    assert [one.gang for one in plan.nominations].count("default/g") == 3
    assert (setting.fleet.columns.occupied[: setting.fleet.size, :4] != 0).all()
    assert not chooser.still_holds(waiting[0].pod, "gone", False)
    assert chooser.still_holds(waiting[0].pod, nodes["uid-w0"], True)
    setting.fleet.delete_node("p0")
    again = adopt(batch, nodes, chooser, 10.0)
    assert len(again.nominations) == 2
