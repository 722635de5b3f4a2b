"""What the price loop reads of the fleet: states counted as the packing LP wants them, demand counted by
class.
"""

from __future__ import annotations

import msgspec
import pytest

from cluster.policy import ClusterPolicy
from cluster.wire import Node, Pod
from scheduler.arrivals import ArrivalBook
from scheduler.conditions import read_conditions
from scheduler.fleet import Fleet


def node(name, product, allocatable, **labels):
    data = {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": product, **labels}},
        "status": {"allocatable": allocatable},
    }
    return msgspec.convert(data, Node)


def pod(uid, resource, count, where=""):
    data = {
        "metadata": {"name": uid, "namespace": "d", "uid": uid},
        "spec": {
            "nodeName": where,
            "containers": [{"name": "c", "resources": {"limits": {resource: str(count)}}}],
        },
    }
    return msgspec.convert(data, Pod)


@pytest.fixture
def fleet():
    return Fleet()


def test_an_empty_fleet_has_nothing_to_sell(fleet):
    found = read_conditions(fleet, ClusterPolicy())
    assert dict(found.summary.models) == {}
    assert found.observed == {}


def test_uncut_gpus_are_counted_by_how_many_a_node_has_free(fleet):
    for name in ("a", "b", "c"):
        fleet.apply_node(node(name, "NVIDIA-A100-SXM4-80GB", {"nvidia.com/gpu": "8"}))
    fleet.apply_pod(pod("p1", "nvidia.com/gpu", 3, "a"))
    found = read_conditions(fleet, ClusterPolicy())
    assert dict(found.summary.whole_nodes) == {("A100-80GB", 8): 2, ("A100-80GB", 5): 1}
    assert dict(found.summary.free_nodes) == {}
    assert found.summary.free_gpus() == 21


def test_fixed_instances_are_counted_by_profile(fleet):
    fleet.apply_node(
        node(
            "a", "NVIDIA-A100-SXM4-80GB", {"nvidia.com/mig-1g.10gb": "7", "nvidia.com/mig-3g.40gb": "2"},
            **{"nvidia.com/mig.strategy": "mixed"},
        )
    )  # fmt: skip
    fleet.apply_pod(pod("p1", "nvidia.com/mig-1g.10gb", 2, "a"))
    found = read_conditions(fleet, ClusterPolicy())
    assert dict(found.summary.static_instances) == {("A100-80GB", "1g.10gb"): 5, ("A100-80GB", "3g.40gb"): 2}


def test_what_runs_and_what_waits_are_both_demand(fleet):
    fleet.apply_node(node("a", "NVIDIA-L40S", {"nvidia.com/gpu": "4"}))
    fleet.apply_pod(pod("p1", "nvidia.com/gpu", 1, "a"))
    for uid in ("p2", "p3"):
        fleet.apply_pod(pod(uid, "nvidia.com/gpu", 2))
    fleet.apply_pod(pod("p4", "nvidia.com/mig-1g.10gb", 3))
    found = read_conditions(fleet, ClusterPolicy())
    assert found.observed == {"whole:1": 1.0, "whole:2": 2.0, "mig:1g.10gb": 3.0}


def test_deleted_nodes_are_not_counted(fleet):
    fleet.apply_node(node("a", "NVIDIA-L40S", {"nvidia.com/gpu": "4"}))
    fleet.delete_node("a")
    assert read_conditions(fleet, ClusterPolicy()).summary.free_gpus() == 0


def test_prices_by_model_come_from_the_policy(fleet):
    policy = ClusterPolicy.model_validate({"prices": {"gpuHour": 2.0, "gpuHourByModel": {"L40S-48GB": 1.0}}})
    found = read_conditions(fleet, policy)
    assert (found.price_of("L40S-48GB"), found.price_of("A100-80GB")) == (1.0, 2.0)


def test_nodes_alike_in_cpu_and_memory_are_one_pool(fleet):
    for name, cpu in (("a", "64"), ("b", "64"), ("c", "4")):
        fleet.apply_node(node(name, "NVIDIA-L40S", {"nvidia.com/gpu": "4", "cpu": cpu, "memory": "256Gi"}))
    fleet.apply_pod(pod("web", "cpu", 1, "c"))
    found = read_conditions(fleet, ClusterPolicy())
    pools = sorted((pool.cpu_milli, dict(pool.whole_nodes)) for pool in found.summary.hosts)
    assert pools == [(3000.0, {("L40S-48GB", 4): 1}), (128_000.0, {("L40S-48GB", 4): 2})]
    assert sum(pool.memory_mib for pool in found.summary.hosts) == 3 * 256 * 1024
    assert found.without_gpu == (1000.0, 0.0)


def test_needs_are_part_of_the_class(fleet):
    made = pod("p", "nvidia.com/gpu", 2)
    made.spec.containers[0].resources.requests.update({"cpu": "6", "memory": "4Gi"})
    fleet.apply_pod(made)
    assert read_conditions(fleet, ClusterPolicy()).observed == {"whole:2/6000m/4096Mi": 1.0}


def test_a_pod_waits_when_it_is_a_moment_old_and_has_no_room(fleet):
    def mig(uid, profile, created, where="", nominated=""):
        found = pod(uid, f"nvidia.com/mig-{profile}", 1, where)
        found = msgspec.structs.replace(
            found, metadata=msgspec.structs.replace(found.metadata, creation_timestamp=created)
        )
        status = msgspec.structs.replace(found.status, nominated_node_name=nominated)
        return msgspec.structs.replace(found, status=status)

    fleet.apply_pod(mig("old", "3g.40gb", "2026-01-01T00:00:00Z"))
    fleet.apply_pod(mig("new", "1g.10gb", "2026-01-01T00:00:09Z"))
    fleet.apply_pod(mig("bound", "2g.20gb", "2026-01-01T00:00:00Z", where="a"))
    fleet.apply_pod(mig("promised", "7g.80gb", "2026-01-01T00:00:00Z", nominated="a"))
    now = 1767225610.0  # ten seconds later
    assert read_conditions(fleet, ClusterPolicy(), now=now).waiting == {"mig:3g.40gb"}
    assert read_conditions(fleet, ClusterPolicy()).waiting == {"mig:3g.40gb", "mig:1g.10gb"}


def test_what_holds_room_for_others_runs_but_neither_arrives_nor_waits(fleet):
    fleet.apply_node(node("a", "NVIDIA-A100-SXM4-80GB", {"nvidia.com/gpu": "8"}))
    stand_in = pod("s1", "nvidia.com/gpu", 1)
    labels = {"slicewise.io/warm": "placeholder"}
    stand_in = msgspec.structs.replace(
        stand_in, metadata=msgspec.structs.replace(stand_in.metadata, labels=labels)
    )
    book = ArrivalBook()
    read_conditions(fleet, ClusterPolicy(), book=book)
    fleet.apply_pod(stand_in)
    found = read_conditions(fleet, ClusterPolicy(), book=book)
    assert (dict(found.arrivals), found.waiting) == ({}, frozenset())
    assert found.observed == {"whole:1": 1.0}
    fleet.apply_pod(pod("p1", "nvidia.com/gpu", 1))
    found = read_conditions(fleet, ClusterPolicy(), book=book)
    assert list(found.arrivals) == ["whole:1"]
    assert found.waiting == {"whole:1"}
