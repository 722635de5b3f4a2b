"""Each term of a price on its own."""

from __future__ import annotations

import pytest

from cluster.wire import Pod
from scheduler.bill import Bill
from scheduler.fleet import Fleet
from scheduler.packing.prices import unsolved
from tests.scheduler.fleet_objects import (
    A100_PCIE,
    H100,
    L40S,
    Setting,
    claim,
    intensities,
    node,
    pod,
    policy,
    slices,
)

GPU = "nvidia.com/gpu"


def bill(setting: Setting, the_pod: Pod, name: str) -> Bill:
    found: Bill = next(b for b in setting.decider.bills(the_pod) if b.node == name)
    return found


def test_money_is_the_units_share_of_the_node_class_price_and_the_risk():
    fleet = Fleet()
    for name in ("plain", "spot"):
        fleet.apply_node(node(name, labels={"kind": name}))
        for item in slices(name):
            fleet.apply_slice(item)
    spot = {
        "name": "s",
        "match": {"kind": "spot"},
        "gpuHour": 1.0,
        "interruptionsPerHour": 0.1,
        "interruptionCost": 3,
    }
    setting = Setting(fleet, policy(nodes=[spot], prices={"gpuHourByModel": {"H100-80GB": 4.0}}))
    half = pod("p", {"nvidia.com/mig-3g.40gb": 1})
    assert bill(setting, half, "plain").terms["money"] == pytest.approx(4.0 / 2)
    assert bill(setting, half, "spot").terms["money"] == pytest.approx(1.0 / 2 + 0.1 * 3 / 2)


def test_carbon_is_the_added_watts_at_the_zones_intensity():
    fleet = Fleet()
    fleet.apply_node(node("a", allocatable={GPU: "2"}))
    setting = Setting(fleet)
    setting.carbon = intensities(SE=200.0)
    model = fleet.hardware.models[0]
    expected = 2 * (model.peak_watts - model.idle_watts) / 1000 * 200 / 1e6 * 100.0
    assert bill(setting, pod("p", {GPU: 2}), "a").terms["carbon"] == pytest.approx(expected)


def test_one_node_of_unknown_zone_leaves_carbon_out_everywhere():
    fleet = Fleet()
    fleet.apply_node(node("a", allocatable={GPU: "2"}))
    fleet.apply_node(node("b", allocatable={GPU: "2"}, region="moon-1"))
    setting = Setting(fleet)
    for name in ("a", "b"):
        found = bill(setting, pod("p", {GPU: 1}), name)
        assert "carbon" not in found.terms
        assert found.absent["carbon"].startswith("1 GPU node(s) stand in no known grid zone")
    fleet.delete_node("b")
    assert "carbon" in bill(setting, pod("p", {GPU: 1}), "a").terms


def test_expired_intensities_are_not_used():
    fleet = Fleet()
    fleet.apply_node(node("a", allocatable={GPU: "2"}))
    setting = Setting(fleet)
    setting.now = 2e18
    assert "carbon" in bill(setting, pod("p", {GPU: 1}), "a").absent


def test_nvlink_charges_the_speed_lost_and_knows_pairs_under_the_device_plugin():
    fleet = Fleet()
    pairs = {"slicewise.io/nvlink-topology": "bridges"}
    fleet.apply_node(node("pairs", product=A100_PCIE, allocatable={GPU: "4"}, labels=pairs))
    fleet.apply_node(node("switch", product=H100, allocatable={GPU: "8"}))
    fleet.apply_node(node("pcie", product=L40S, allocatable={GPU: "4"}))
    setting = Setting(fleet)
    two = pod("p", {GPU: 2}, annotations={"slicewise.io/nvlink-weight": "1.0"})
    assert bill(setting, two, "pairs").terms["nvlink"] == pytest.approx(0.0)
    assert bill(setting, two, "switch").terms["nvlink"] == pytest.approx(0.0)
    assert bill(setting, two, "pcie").terms["nvlink"] == pytest.approx(2.5 * 2 * (1 - 64 / 600), rel=0.01)
    fleet.apply_pod(pod("one", {GPU: 1}, on="pairs"))
    # GPU 0 is taken; the plugin prefers the linked pair 2-3 to 1-2.
    assert bill(setting, two, "pairs").terms["nvlink"] == pytest.approx(0.0)
    none = pod("q", {GPU: 2}, annotations={"slicewise.io/nvlink": "none"})
    assert bill(setting, none, "pcie").terms["nvlink"] == 0.0
    assert bill(setting, pod("r", {GPU: 1}), "pcie").terms["nvlink"] == 0.0


def test_nvlink_under_dra_is_that_of_the_first_free_gpus():
    fleet = Fleet()
    fleet.apply_node(node("n", labels={"slicewise.io/nvlink-topology": "bridges"}))
    for item in slices("n", gpus=4):
        fleet.apply_slice(item)
    fleet.apply_claim(claim("c", devices=["gpu-0"], on="n"))
    found = bill(Setting(fleet), pod("p", {GPU: 2}), "n")
    assert found.terms["nvlink"] > 0.5


def test_locality_pays_back_image_and_weights_seconds():
    fleet = Fleet()
    fleet.apply_node(node("warm", allocatable={GPU: "1"}, images=["docker.io/vllm/vllm-openai:v1"]))
    fleet.apply_node(
        node(
            "both",
            allocatable={GPU: "1"},
            images=["vllm/vllm-openai:v1"],
            labels={"slicewise.io/weights": "a"},
        )
    )
    fleet.apply_node(node("cold", allocatable={GPU: "1"}))
    setting = Setting(fleet)
    wanted = pod("p", {GPU: 1}, annotations={"slicewise.io/weights": "a"})
    assert bill(setting, wanted, "cold").terms["locality"] == 0.0
    assert bill(setting, wanted, "warm").terms["locality"] == pytest.approx(-30 * 2.5 / 3600)
    assert bill(setting, wanted, "both").terms["locality"] == pytest.approx(-90 * 2.5 / 3600)


def test_fragmentation_is_the_value_destroyed_times_the_dual_multiplier():
    fleet = Fleet()
    fleet.apply_node(node("n"))
    for item in slices("n"):
        fleet.apply_slice(item)
    settings = [
        Setting(fleet, policy(prices={"fragmentationDual": dual, "fragmentationGradient": 0.0}))
        for dual in (1.0, 3.0)
    ]
    small = pod("p", {"nvidia.com/mig-1g.10gb": 1})
    one, three = (bill(setting, small, "n").terms["fragmentation"] for setting in settings)
    tables = settings[0].tables
    value, free = tables.gpu_value["H100-80GB"], tables.node_value["H100-80GB"]
    assert one == pytest.approx(free[2] - free[1] - value[1])
    assert three == pytest.approx(3 * one)


def test_fragmentation_is_absent_before_the_first_prices():
    fleet = Fleet()
    fleet.apply_node(node("a", allocatable={GPU: "1"}))
    setting = Setting(fleet)
    setting.tables = unsolved()
    found = bill(setting, pod("p", {GPU: 1}), "a")
    assert "fragmentation" not in found.terms
    assert found.feasible


def test_a_multiplier_of_zero_switches_a_term_off():
    fleet = Fleet()
    fleet.apply_node(node("a", allocatable={GPU: "1"}))
    setting = Setting(fleet, policy(terms={"money": 0.0, "carbon": 2.0}))
    plain = Setting(fleet)
    found = bill(setting, pod("p", {GPU: 1}), "a")
    assert "money" not in found.terms
    assert found.terms["carbon"] == pytest.approx(2 * bill(plain, pod("p", {GPU: 1}), "a").terms["carbon"])


def test_a_shared_replica_costs_its_part_of_a_gpu():
    fleet = Fleet()
    shared = {"nvidia.com/gpu.count": "2", "nvidia.com/gpu.replicas": "4"}
    fleet.apply_node(node("s", allocatable={"nvidia.com/gpu.shared": "8"}, labels=shared))
    found = bill(Setting(fleet), pod("p", {"nvidia.com/gpu.shared": 1}), "s")
    assert found.terms["money"] == pytest.approx(2.5 / 4)
