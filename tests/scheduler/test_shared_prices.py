"""Replicas of shared GPUs: priced by the code of the packing study, with the CPU of their nodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.conditions import read_conditions
from scheduler.decider import Decider
from scheduler.fleet import Fleet
from scheduler.packing.mix import DemandMix
from scheduler.packing.prices import solve_prices
from scheduler.packing.share_cost import placing_cost
from scheduler.packing.shared_fleet import (
    PLENTY_MILLI,
    SharedNodes,
    free_nodes,
    replica_milli,
    solve_shared,
)
from scheduler.packing.shares import MILLI, ShareClass
from tests.scheduler.fleet_objects import node, pod, policy

KINDS = (("L40S-48GB", 4), ("T4-16GB", 10))
MIX = DemandMix({"shared/2000m/0Mi": 6.0, "shared/250m/0Mi": 3.0})
SHARED = "nvidia.com/gpu.shared"


def nodes(*rows):
    """(kind, free milli-CPU, free replicas) each."""
    kind, cpu, free = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return SharedNodes(KINDS, kind, cpu, free)


FLEET = nodes((0, 16_000, 16), (0, 3_000, 16), (0, PLENTY_MILLI, 7), (1, 8_000, 20), (1, 400, 3))
TABLES = solve_shared(FLEET, MIX.expected(), 10.0)


def cost(kind, cpu, free, replicas=1, needs=0, dual=1.0, gradient=0.0):
    found = TABLES.cost_milli(nodes((kind, cpu, free)), np.array([replicas]), needs, dual, gradient)
    return float(found[0])


@pytest.mark.parametrize(
    ("replicas", "milli"), [(1, 1000), (2, 500), (3, 330), (7, 140), (48, 20), (500, 10)]
)
def test_a_replica_is_its_part_of_a_gpu_in_whole_steps(replicas, milli):
    assert replica_milli(replicas) == milli


def test_free_replicas_fill_gpus_one_after_the_other():
    found = free_nodes(nodes((0, 0, 6), (1, 0, 10), (1, 0, 0)))
    assert found.gpu_free.tolist() == [[MILLI, 500], [MILLI, 0], [0, 0]]


@given(
    kind=st.integers(0, 1), cpu=st.integers(0, 30_000), free=st.integers(1, 40), needs=st.integers(0, 9000)
)
def test_a_replica_never_earns_anything_and_never_costs_more_than_its_share_and_cpu(kind, cpu, free, needs):
    found = cost(kind, cpu, free, needs=min(needs, cpu))
    assert found >= -0.1
    assert found <= TABLES.prices.node_value(free_nodes(nodes((kind, cpu, free))))[0] + 0.1


def test_cpu_taken_from_other_replicas_is_charged():
    modest, greedy = cost(0, 16_000, 16, needs=250), cost(0, 16_000, 16, needs=12_000)
    assert greedy > modest + 1.0
    assert cost(0, PLENTY_MILLI, 16, needs=250) == pytest.approx(
        cost(0, PLENTY_MILLI, 16, needs=12_000), abs=0.5
    )


@pytest.mark.parametrize("free", [1, 2, 3, 5, 9])
def test_it_is_the_cost_of_the_packing_study(free):
    """A partly used GPU is where a share goes; then both ways of asking are one."""
    one = nodes((0, 9_000, free))
    pod_ = ShareClass(1, replica_milli(4), 2_000, ("L40S-48GB/4",))
    study, _ = placing_cost(TABLES.prices, TABLES.gradient, free_nodes(one), pod_)
    found = TABLES.cost_milli(one, np.array([1]), 2_000, 6.0, 1.0)
    assert found[0] == pytest.approx(study[0], abs=0.01)


def test_without_shared_pods_one_replica_a_pod_is_expected():
    assert solve_shared(FLEET, (), 10.0).prices.node_value(free_nodes(FLEET)).max() > 0.0


def shared_fleet(**cpus):
    fleet = Fleet()
    labels = {"nvidia.com/gpu.count": "2", "nvidia.com/gpu.replicas": "4"}
    for name, cpu in cpus.items():
        fleet.apply_node(node(name, allocatable={SHARED: "8", "cpu": cpu, "memory": "64Gi"}, labels=labels))
    return fleet


def test_the_decider_sends_a_hungry_pod_where_cpu_is_plenty():
    fleet = shared_fleet(poor="8", rich="64")
    found = read_conditions(fleet, policy()).summary
    assert found.shared is not None
    assert found.shared.kinds[0][1] == 4
    assert sorted(found.shared.cpu.tolist()) == [8_000, 64_000]
    mix = DemandMix({"shared/1000m/0Mi": 8.0, "shared/6000m/0Mi": 1.0})
    tables = solve_prices(found, mix, lambda _: 2.5)
    chosen = policy(carbon={"provider": "none"})
    decider = Decider(fleet, lambda: chosen, lambda: tables, dict, lambda: 0.0)
    hungry, small = pod("h", {SHARED: 1, "cpu": "6"}), pod("s", {SHARED: 1, "cpu": "500m"})
    bills = {bill.node: bill for bill in decider.bills(hungry)}
    assert bills["poor"].terms["fragmentation"] > bills["rich"].terms["fragmentation"] + 1e-3
    assert all(bill.feasible for bill in decider.bills(small))


def test_a_pod_for_whose_cpu_a_node_has_no_room_is_told_so_but_not_refused():
    fleet = shared_fleet(poor="2", rich="64")
    tables = solve_prices(read_conditions(fleet, policy()).summary, MIX, lambda _: 2.5)
    chosen = policy(carbon={"provider": "none"})
    decider = Decider(fleet, lambda: chosen, lambda: tables, dict, lambda: 0.0)
    hungry = pod("h", {SHARED: 1, "cpu": "6"})
    bills = {bill.node: bill for bill in decider.bills(hungry)}
    assert not bills["poor"].feasible
    assert "6 CPU" in bills["poor"].reason
    assert "2 CPU" in bills["poor"].reason
    demand = decider.demand(hungry)
    assert demand is not None
    assert fleet.names[decider.place(demand)] == "rich"
    assert decider.filter(hungry, ["poor", "rich"]).failed == {}
