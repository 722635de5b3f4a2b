"""The floor of replicas on lasting nodes: the next one is refused spot nodes until it holds."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.wire import Pod
from dra.resource_api import OwnerReference
from scheduler.decider import Decider
from scheduler.fleet import Fleet
from scheduler.on_demand import ANNOTATION, Floor, floor_of
from scheduler.packing.prices import unsolved
from tests.scheduler.fleet_objects import node, pod, policy

POLICY = policy(
    nodes=[
        {"name": "spot", "match": {"capacity": "spot"}, "gpuHour": 0.5, "interruptionsPerHour": 0.05},
        {"name": "bought", "match": {"capacity": "on-demand"}, "gpuHour": 3.0},
    ],
    terms={"carbon": 0.0},
)


def replica(name: str, floor: str | None, *, on: str = "", owner: str = "rs-1") -> Pod:
    made = pod(name, {"nvidia.com/gpu": 1}, on=on, annotations={} if floor is None else {ANNOTATION: floor})
    reference = OwnerReference(kind="ReplicaSet", name=owner, uid=owner, controller=True)
    metadata = msgspec.structs.replace(made.metadata, owner_references=(reference,))
    return msgspec.structs.replace(made, metadata=metadata)


@pytest.fixture
def decider() -> Decider:
    fleet = Fleet()
    for name, capacity in (("spot-1", "spot"), ("spot-2", "spot"), ("sure-1", "on-demand")):
        fleet.apply_node(node(name, allocatable={"nvidia.com/gpu": "8"}, labels={"capacity": capacity}))
    return Decider(fleet, lambda: POLICY, unsolved, dict, lambda: 0.0)


NODES = ["spot-1", "spot-2", "sure-1"]


def goes_to(decider: Decider, one: Pod) -> list[str]:
    passed = decider.filter(one, NODES, choose=False).passed
    return [NODES[position] for position in passed]


def test_without_a_floor_price_alone_decides(decider: Decider):
    one = replica("a", None)
    assert goes_to(decider, one) == NODES
    demand = decider.demand(one)
    assert demand is not None
    row = decider.place(demand)
    assert row is not None
    assert decider.fleet.names[row].startswith("spot")


def test_replicas_go_to_lasting_nodes_until_the_floor_holds(decider: Decider):
    first = replica("a", "2")
    decider.fleet.apply_pod(first)
    outcome = decider.filter(first, NODES)
    assert [NODES[i] for i in outcome.passed] == ["sure-1"]
    assert outcome.unresolvable["spot-1"].startswith("too few replicas of its workload stand on nodes")
    decider.fleet.apply_pod(replica("a", "2", on="sure-1"))
    assert goes_to(decider, replica("b", "2")) == ["sure-1"]
    decider.fleet.apply_pod(replica("b", "2", on="sure-1"))
    assert goes_to(decider, replica("c", "2")) == NODES


def test_the_planned_road_sees_it_too(decider: Decider):
    one = replica("a", "1")
    demand = decider.demand(one)
    assert demand is not None
    assert demand.on_demand
    prices = decider.prices(demand)
    rows = decider.fleet.rows
    assert np.isinf(prices[[rows["spot-1"], rows["spot-2"]]]).all()
    assert np.isfinite(prices[rows["sure-1"]])


def test_a_share_grows_with_the_workload(decider: Decider):
    for number, where in enumerate(["sure-1", "spot-1"]):
        decider.fleet.apply_pod(replica(f"p{number}", "50%", on=where))
    # Two of three: one of two stands where it lasts.
    assert goes_to(decider, replica("c", "50%")) == ["sure-1"]
    decider.fleet.apply_pod(replica("c", "50%", on="sure-1"))
    assert goes_to(decider, replica("d", "50%")) == NODES


def test_another_workload_s_replicas_do_not_count_and_a_lost_one_counts_no_more(decider: Decider):
    decider.fleet.apply_pod(replica("x", "1", on="sure-1", owner="rs-2"))
    assert goes_to(decider, replica("a", "1")) == ["sure-1"]
    decider.fleet.apply_pod(replica("b", "1", on="sure-1"))
    assert goes_to(decider, replica("a", "1")) == NODES
    decider.fleet.delete_pod("uid-b")
    assert goes_to(decider, replica("a", "1")) == ["sure-1"]


def test_a_pod_does_not_count_for_itself(decider: Decider):
    decider.fleet.apply_pod(replica("a", "1", on="sure-1"))
    assert goes_to(decider, replica("a", "1")) == ["sure-1"]


def test_a_malformed_floor_is_told_and_ignored(decider: Decider):
    demand = decider.demand(replica("a", "two"))
    assert demand is not None
    assert not demand.on_demand
    assert "got 'two', expected a number or a percentage" in demand.problems[0]


@given(st.integers(0, 100), st.integers(0, 60))
def test_a_percentage_is_rounded_up_and_never_more_than_all(percent: int, replicas: int):
    least = Floor(percent, True).of(replicas)
    assert percent * replicas <= 100 * least < percent * replicas + 100
    assert least <= replicas


@pytest.mark.parametrize(
    ("text", "floor"),
    [("3", Floor(3)), (" 25% ", Floor(25, True)), ("101%", None), ("-1", None), ("", None), ("1.5", None)],
)
def test_forms(text: str, floor: Floor | None):
    assert floor_of(text) == floor


def test_a_large_workload_costs_one_look_at_the_fleet(decider: Decider, monkeypatch: pytest.MonkeyPatch):
    for number in range(16):
        decider.fleet.apply_pod(replica(f"r{number}", "50%", on=("spot-1", "sure-1")[number % 2]))
    looks: list[int] = []
    view = decider.fleet.view

    def counted(rows=None):
        looks.append(1)
        return view(rows)

    monkeypatch.setattr(decider.fleet, "view", counted)
    demand = decider.demand(replica("next", "50%"))
    assert demand is not None
    assert demand.on_demand  # nine of seventeen, and eight stand
    assert len(looks) <= 2  # at the nodes of the others, and once at the fleet's world
