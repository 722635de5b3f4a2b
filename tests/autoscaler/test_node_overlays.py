"""What stands beyond a list price, as NodeOverlays that Karpenter's schema takes and none of which shuts out
another. What the real Karpenter makes of them is in tests/cluster/test_node_advice_on_real_karpenter.py.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.nodes.fresh_node import Prices
from autoscaler.nodes.hints import Lacking, Machine, hints
from autoscaler.nodes.karpenter import CAPACITY_LABEL, overlays
from autoscaler.nodes.standing import Standing, standing
from cluster.wire import Node
from scheduler.fleet import Fleet
from tests.autoscaler.test_node_hints import (
    ANY,
    H100_NODE,
    L40S_NODE,
    PRICES,
    SPOT,
    WHOLE,
    fleet_of,
    gpu_node,
)
from tests.scheduler.fleet_objects import L40S, intensities, tables

# priceAdjustment and weight as in Karpenter's CRD (pkg/apis/v1alpha1/nodeoverlay.go).
PRICE_ADJUSTMENT = re.compile(r"^(([+-]{1}(\d*\.?\d+))|(\+{1}\d*\.?\d+%)|(^(-\d{1,2}(\.\d+)?%)$)|(-100%))$")
NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
DEAR = replace(PRICES, carbon=intensities(SE=30.0, DE=400.0))


def labelled(node: Node, **labels: str) -> Node:
    every = {**node.metadata.labels, **labels}
    return msgspec.structs.replace(node, metadata=msgspec.structs.replace(node.metadata, labels=every))


SPOT_NODE = labelled(H100_NODE, **SPOT)


def amounts(prices: Prices, *nodes: Node) -> dict[str, float]:
    kinds, _ = fleet_of(*nodes)
    return {str(one.machine): one.beyond for one in standing(kinds, prices)}


def test_risk_and_carbon_of_a_node_in_full_use_stand_beyond_its_list_price():
    found = amounts(DEAR, L40S_NODE, SPOT_NODE)
    tonne = DEAR.policy.prices.carbon_tonne
    assert found["g6e.12xlarge eu-north-1a"] == pytest.approx(4 * 350 / 1000 * 30.0 / 1e6 * tonne)
    assert found["p5.48xlarge eu-north-1a spot"] == pytest.approx(
        8 * 0.1 * 2.0 + 8 * 700 / 1000 * 30.0 / 1e6 * tonne
    )


def test_what_waits_and_what_the_free_room_is_worth_change_no_amount():
    fleet = Fleet()
    fleet.apply_node(H100_NODE)
    priced = replace(DEAR, tables=tables(fleet, DEAR.policy, **{"whole:1": 5.0}), used_share=1.0)
    kinds, _ = fleet_of(H100_NODE)
    [hint] = hints([Lacking(WHOLE, ANY, 1)], kinds, priced)
    assert hint.bill.terms["left"] < 0.0
    assert amounts(priced, H100_NODE) == amounts(DEAR, H100_NODE)


def test_carbon_is_left_out_of_all_where_one_zone_is_not_measured():
    unmeasured = replace(DEAR, carbon={})
    assert amounts(unmeasured, L40S_NODE, SPOT_NODE) == {
        "g6e.12xlarge eu-north-1a": 0.0,
        "p5.48xlarge eu-north-1a spot": pytest.approx(8 * 0.1 * 2.0),
    }


def test_overlays_are_what_karpenter_s_schema_takes():
    kinds, _ = fleet_of(L40S_NODE, SPOT_NODE)
    made = overlays(standing(kinds, DEAR))
    assert len(made) == 2
    for one in made:
        assert (one["apiVersion"], one["kind"]) == ("karpenter.sh/v1alpha1", "NodeOverlay")
        assert NAME.fullmatch(one["metadata"]["name"])
        spec = one["spec"]
        assert PRICE_ADJUSTMENT.fullmatch(spec["priceAdjustment"])
        assert 1 <= spec["weight"] <= 10_000
        assert {r["operator"] for r in spec["requirements"]} == {"In"}
    keys = {r["key"]: r["values"] for one in made for r in one["spec"]["requirements"]}
    assert keys["karpenter.sh/capacity-type"] == ["spot"]


def test_what_differs_by_nothing_or_has_no_instance_type_gets_no_overlay():
    assert overlays([Standing(Machine("p5", "z", ("", "")), 0.00001)]) == []
    assert overlays([Standing(Machine("", "z", ("", "")), 1.0)]) == []


@pytest.mark.parametrize(
    ("label", "value", "known"),
    [
        ("eks.amazonaws.com/capacityType", "SPOT", "spot"),
        ("eks.amazonaws.com/capacityType", "ON_DEMAND", "on-demand"),
        ("cloud.google.com/gke-spot", "true", "spot"),
        ("kubernetes.azure.com/scalesetpriority", "spot", "spot"),
    ],
)
def test_capacity_that_another_maker_of_nodes_tells_is_put_in_karpenter_s_words(
    label: str, value: str, known: str
):
    [made] = overlays([Standing(Machine("p5", "", (label, value)), 1.0)])
    assert {r["key"]: r["values"] for r in made["spec"]["requirements"]}[CAPACITY_LABEL] == [known]


def test_of_two_kinds_that_are_one_to_karpenter_its_own_is_told():
    own, other = (
        Machine("p5", "z", (CAPACITY_LABEL, "spot")),
        Machine("p5", "z", ("cloud.google.com/gke-spot", "true")),
    )
    [made] = overlays([Standing(other, 1.0), Standing(own, 2.0)])
    assert made["spec"]["priceAdjustment"] == "+2.0000"


def test_long_names_stay_apart():
    made = overlays(Standing(Machine("x" * 70 + end, "z", ("", "")), 1.0) for end in "ab")
    names = {one["metadata"]["name"] for one in made}
    assert len(names) == 2
    assert all(NAME.fullmatch(name) and len(name) <= 63 for name in names)


MACHINES = [
    Machine(kind, zone, capacity)
    for kind, zone, capacity in product(
        ("a", "b"),
        ("", "z1", "z2"),
        (
            ("", ""),
            (CAPACITY_LABEL, "spot"),
            (CAPACITY_LABEL, "on-demand"),
            ("cloud.google.com/gke-spot", "true"),
        ),
    )
]


@given(st.sets(st.sampled_from(MACHINES)))
def test_no_overlay_meets_another_of_its_weight_on_the_same_offering(machines: set[Machine]):
    made = overlays(Standing(machine, 1.0) for machine in machines)
    for offering in product(("a", "b"), ("z1", "z2"), ("spot", "on-demand")):
        weights = [one["spec"]["weight"] for one in made if matches(one, offering)]
        assert len(weights) == len(set(weights))


def matches(overlay: dict[str, Any], offering: tuple[str, str, str]) -> bool:
    keys = ("node.kubernetes.io/instance-type", "topology.kubernetes.io/zone", CAPACITY_LABEL)
    labels = dict(zip(keys, offering, strict=True))
    return all(labels[r["key"]] in r["values"] for r in overlay["spec"]["requirements"])


def test_a_kind_that_nobody_waits_for_is_told_too():
    kinds, _ = fleet_of(gpu_node("s", "g6e.xlarge", L40S, 1))
    assert len(overlays(standing(kinds, DEAR))) == 1
