"""Kinds of node ranked for what waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from autoscaler.nodes.fresh_node import Prices
from autoscaler.nodes.hints import Lacking, Machine, hints, kinds_of, machine_of
from autoscaler.nodes.node_kinds import Running, kind_of
from cluster.wire import Node, Taint
from scheduler.demand import Demand, GpuRequest
from scheduler.fleet import Fleet
from scheduler.packing.prices import unsolved
from scheduler.planner.admission import Constraints
from tests.scheduler.fleet_objects import H100, L40S, intensities, inventory, node, policy, tables

ANY = Constraints((), None, (), False)
SPOT = {"karpenter.sh/capacity-type": "spot"}
POLICY = policy(
    prices={"gpuHour": 4.0, "gpuHourByModel": {"L40S-48GB": 1.0}},
    nodes=[
        {"name": "spot", "match": SPOT, "gpuHour": 0.5, "interruptionsPerHour": 0.1, "interruptionCost": 2.0}
    ],
    carbon={"provider": "static"},
)
PRICES = Prices(POLICY, unsolved(), intensities(SE=30.0, DE=400.0), 0.0, 0.5)
WHOLE = Demand((GpuRequest("whole", None, 1),))
SLICE = Demand((GpuRequest("mig", "1g.10gb", 1),))


def gpu_node(name: str, machine: str, product: str, gpus: int, **labels: str) -> Node:
    named = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    every = {
        "node.kubernetes.io/instance-type": machine,
        "topology.kubernetes.io/zone": "eu-north-1a",
        **named,
    }
    return node(name, product=product, allocatable={"nvidia.com/gpu": str(gpus)}, labels=every)


def fleet_of(*nodes: Node) -> tuple[dict[Machine, Any], tuple[Running, ...]]:
    fleet = Fleet()
    for one in nodes:
        fleet.apply_node(one)
    running = tuple(
        Running(one.metadata.labels, found)
        for one in nodes
        if (found := fleet.inventory(one.metadata.name)) is not None
    )
    return kinds_of(nodes, running), running


H100_NODE = gpu_node("h", "p5.48xlarge", H100, 8)
L40S_NODE = gpu_node("l", "g6e.12xlarge", L40S, 4)


def test_kinds_are_ranked_by_price_a_replica_and_what_helps_nobody_is_left_out():
    kinds, _ = fleet_of(H100_NODE, L40S_NODE, gpu_node("l2", "g6e.12xlarge", L40S, 4))
    assert len(kinds) == 2
    found = hints([Lacking(WHOLE, ANY, 6)], kinds, PRICES)
    assert [hint.machine.instance_type for hint in found] == ["g6e.12xlarge", "p5.48xlarge"]
    assert [(hint.bill.nodes, hint.bill.replicas) for hint in found] == [(2, 6), (1, 6)]
    assert hints([Lacking(SLICE, ANY, 6)], kinds, PRICES) == ()
    assert hints([], kinds, PRICES) == ()


def test_a_kind_that_the_pods_may_not_use_is_no_hint():
    only = Constraints((("node.kubernetes.io/instance-type", "p5.48xlarge"),), None, (), False)
    kinds, _ = fleet_of(H100_NODE, L40S_NODE)
    found = hints([Lacking(WHOLE, only, 1), Lacking(WHOLE, ANY, 0)], kinds, PRICES)
    assert [hint.machine.instance_type for hint in found] == ["p5.48xlarge"]
    tainted = msgspec.structs.replace(
        L40S_NODE, spec=msgspec.structs.replace(L40S_NODE.spec, taints=(Taint("x", "", "NoSchedule"),))
    )
    kinds, _ = fleet_of(tainted)
    assert hints([Lacking(WHOLE, ANY, 1)], kinds, PRICES) == ()


def test_spot_carries_its_risk_and_what_is_left_is_worth_something_where_the_fleet_is_used():
    spot = gpu_node("s", "p5.48xlarge", H100, 8, karpenter_sh__capacity_type="spot")
    spot = msgspec.structs.replace(
        spot, metadata=msgspec.structs.replace(spot.metadata, labels={**spot.metadata.labels, **SPOT})
    )
    kinds, _ = fleet_of(spot)
    [hint] = hints([Lacking(WHOLE, ANY, 8)], kinds, PRICES)
    assert hint.bill.terms["money"] == pytest.approx(8 * 0.5)
    assert hint.bill.terms["risk"] == pytest.approx(8 * 0.1 * 2.0)
    assert hint.beyond == pytest.approx(hint.bill.terms["risk"] + hint.bill.terms["carbon"])

    fleet = Fleet()
    fleet.apply_node(H100_NODE)
    priced = replace(PRICES, tables=tables(fleet, POLICY, **{"whole:1": 5.0}), used_share=1.0)
    kinds, _ = fleet_of(H100_NODE)
    [one] = hints([Lacking(WHOLE, ANY, 1)], kinds, priced)
    [idle] = hints([Lacking(WHOLE, ANY, 1)], kinds, replace(priced, used_share=0.0))
    assert one.bill.terms["left"] < 0.0
    assert idle.bill.terms["left"] == 0.0
    assert one.bill.per_replica < idle.bill.per_replica
    assert one.bill.total >= 0.0  # what is left never pays for more than itself


def test_a_kind_with_a_driver_is_filled_as_the_driver_would_publish_it():
    bare = node("d", labels={"node.kubernetes.io/instance-type": "p5.48xlarge"})
    running = (Running(bare.metadata.labels, inventory("d", gpus=2)),)
    kind = kind_of("new", bare, running)
    assert kind.inventory is not None
    [hint] = hints([Lacking(SLICE, ANY, 20)], {machine_of(bare.metadata.labels): kind}, PRICES)
    assert (hint.bill.nodes, hint.bill.replicas) == (2, 20)


@pytest.mark.parametrize(
    ("labels", "product"),
    [
        ({"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}, "H100-80GB"),
        ({"k8s.amazonaws.com/accelerator": "nvidia-tesla-t4"}, "T4-16GB"),
        (
            {"karpenter.k8s.aws/instance-gpu-name": "a100", "karpenter.k8s.aws/instance-gpu-memory": "81920"},
            "A100-80GB",
        ),
        (
            {"karpenter.k8s.aws/instance-gpu-name": "a100", "karpenter.k8s.aws/instance-gpu-memory": "40960"},
            "A100-40GB",
        ),
    ],
)
def test_a_cloud_s_own_label_tells_the_model_of_a_node_that_never_ran(labels: dict[str, str], product: str):
    template = msgspec.convert({"metadata": {"name": "t", "labels": labels}}, Node)
    kind = kind_of("t", template, ())
    assert kind.node.metadata.labels["nvidia.com/gpu.product"] == product


def test_a_kind_whose_first_node_starts_is_cordoned_or_goes_is_hinted_all_the_same():
    for passing in (
        Taint("karpenter.sh/unregistered", "", "NoExecute"),
        Taint("karpenter.sh/disrupted", "", "NoSchedule"),
        Taint("node.kubernetes.io/not-ready", "", "NoSchedule"),
    ):
        spec = msgspec.structs.replace(L40S_NODE.spec, taints=(passing,), unschedulable=True)
        kinds, _ = fleet_of(msgspec.structs.replace(L40S_NODE, spec=spec))
        [hint] = hints([Lacking(WHOLE, ANY, 1)], kinds, PRICES)
        assert hint.machine.instance_type == "g6e.12xlarge"
