"""DaemonSet pods come before pending pods on a node that does not exist yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pytest

from autoscaler.nodes.daemon_sets import DaemonSet, DaemonSets
from autoscaler.nodes.daemons import Daemon, daemons_for, daemons_seen
from autoscaler.nodes.fresh_node import Prices, fill
from autoscaler.nodes.node_kinds import NodeKind, Running, kind_of
from cluster.client import Api
from cluster.wire import Node, Pod
from scheduler.demand import Demand, GpuRequest, parse_demand
from scheduler.facts import Facts
from scheduler.packing.prices import unsolved
from tests.scheduler.fleet_objects import H100, intensities, inventory, node, policy

POLICY = policy(prices={"gpuHour": 4.0}, carbon={"provider": "none"})
PRICES = Prices(POLICY, unsolved(), intensities(), 0.0, 0.5)
GPU_LABEL = {"nvidia.com/gpu.present": "true"}


def gpu_node(cpu: str = "64", memory: str = "512Gi", **spec: Any) -> Node:
    made = node(
        "template",
        product=H100,
        allocatable={"nvidia.com/gpu": "8", "cpu": cpu, "memory": memory},
        labels=GPU_LABEL,
    )
    return msgspec.structs.replace(made, spec=msgspec.convert(spec, type(made.spec)))


def template(
    requests: Mapping[str, str], *, namespace: str = "kube-system", name: str = "agent", **spec: Any
) -> Pod:
    containers = [{"name": "c", "image": "agent:1", "resources": {"requests": dict(requests)}}]
    return msgspec.convert(
        {"metadata": {"namespace": namespace, "name": name}, "spec": {"containers": containers, **spec}}, Pod
    )


def demand_of(pod: Pod) -> Demand | None:
    return parse_demand(pod, Facts(), {})


def kind(made: Node, *templates: Pod) -> NodeKind:
    return kind_of("group", made, (), lambda one: daemons_for(one, templates, demand_of))


def replicas(cpu_milli: int, memory_mib: int = 0) -> Demand:
    return Demand((GpuRequest("whole", None, 1),), cpu_milli=cpu_milli, memory_mib=memory_mib)


def test_what_daemons_ask_for_is_not_there_for_pending_pods():
    alone = fill(kind(gpu_node()), {replicas(8_000): 8}, PRICES, 9)
    assert (alone.nodes, alone.replicas) == (1, 8)
    log, exporter = template({"cpu": "100m", "memory": "128Mi"}), template({"cpu": "150m"}, name="exporter")
    beside = fill(kind(gpu_node(), log, exporter), {replicas(8_000): 8}, PRICES, 9)
    assert (beside.nodes, beside.replicas) == (2, 8)
    assert dict(beside.placed) == {replicas(8_000): 8}


def test_memory_counts_as_cpu_does():
    agent = template({"memory": "1Gi"})
    assert fill(kind(gpu_node(), agent), {replicas(100, 64 * 1024): 8}, PRICES, 1).replicas == 7
    assert fill(kind(gpu_node()), {replicas(100, 64 * 1024): 8}, PRICES, 1).replicas == 8


def test_a_node_that_its_daemons_fill_helps_nobody():
    assert fill(kind(gpu_node(cpu="4"), template({"cpu": "4"})), {replicas(1): 1}, PRICES, 9).replicas == 0


def test_gpus_that_a_daemon_asks_for_are_taken():
    health = template({"cpu": "1"})
    asks = msgspec.convert(
        {"name": "g", "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "2"}}},
        type(health.spec.containers[0]),
    )
    health = msgspec.structs.replace(
        health, spec=msgspec.structs.replace(health.spec, containers=(*health.spec.containers, asks))
    )
    filled = fill(kind(gpu_node(), health), {replicas(1_000): 8}, PRICES, 1)
    assert filled.replicas == 7
    [daemon] = kind(gpu_node(), health).daemons
    assert (daemon.cpu_milli, daemon.demand) == (3_000, replicas(3_000))
    # Its CPU is taken with its GPU, once.
    assert fill(kind(gpu_node(cpu="10"), health), {replicas(1_000): 8}, PRICES, 1).replicas == 7
    assert fill(kind(gpu_node(cpu="9"), health), {replicas(1_000): 8}, PRICES, 1).replicas == 6


def test_daemons_leave_the_slices_of_a_driver_alone():
    bare = node("d", labels={"node.kubernetes.io/instance-type": "p5"}, allocatable=None)
    running = (Running(bare.metadata.labels, inventory("d", gpus=1)),)
    made = kind_of("new", bare, running, lambda one: (Daemon(500, 100),))
    small = Demand((GpuRequest("mig", "1g.10gb", 1),))
    assert fill(made, {small: 7}, PRICES, 1).replicas == 7
    assert made.daemons == (Daemon(500, 100),)


@pytest.mark.parametrize(
    ("spec", "runs"),
    [
        ({}, True),
        ({"nodeSelector": GPU_LABEL}, True),
        ({"nodeSelector": {"disk": "ssd"}}, False),
        (
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [
                                        {"key": "nvidia.com/gpu.present", "operator": "DoesNotExist"}
                                    ]
                                }
                            ]
                        }
                    }
                }
            },
            False,
        ),
    ],
)
def test_a_daemon_set_counts_where_its_pods_would_run(spec: dict[str, Any], runs: bool):
    found = daemons_for(gpu_node(), [template({"cpu": "1"}, **spec)], demand_of)
    assert found == ((Daemon(1_000, 0),) if runs else ())


def test_a_taint_keeps_daemons_away_that_do_not_tolerate_it():
    tainted = gpu_node(taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}])
    plain = template({"cpu": "1"})
    bearing = template({"cpu": "2"}, tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}])
    assert daemons_for(tainted, [plain, bearing], demand_of) == (Daemon(2_000, 0),)


@pytest.mark.parametrize(
    ("key", "effect", "runs"),
    [
        ("node.kubernetes.io/not-ready", "NoExecute", True),
        ("node.kubernetes.io/not-ready", "NoSchedule", True),
        ("node.kubernetes.io/unschedulable", "NoSchedule", True),
        ("node.kubernetes.io/memory-pressure", "NoSchedule", True),
        ("node.kubernetes.io/out-of-service", "NoExecute", False),
    ],
)
def test_a_condition_of_the_node_keeps_no_daemon_away(key: str, effect: str, runs: bool):
    made = gpu_node(taints=[{"key": key, "effect": effect}])
    assert bool(daemons_for(made, [template({"cpu": "1"})], demand_of)) is runs


def test_labels_that_a_running_node_of_the_kind_has_are_seen_by_selectors():
    bare = msgspec.convert(
        {"metadata": {"name": "t", "labels": {"node.kubernetes.io/instance-type": "p5"}}}, Node
    )
    running = (
        Running(
            {"node.kubernetes.io/instance-type": "p5", "nvidia.com/gpu.product": H100},
            inventory("x"),
        ),
    )
    by_product = template({"cpu": "1"}, nodeSelector={"nvidia.com/gpu.product": H100})
    made = kind_of("group", bare, running, lambda one: daemons_for(one, [by_product], demand_of))
    assert made.daemons == (Daemon(1_000, 0),)


def test_from_pods_the_daemons_are_those_that_stand_on_the_node():
    def pod(name: str, on: str, owner: str, phase: str = "Running") -> Pod:
        made = template({"cpu": "1"}, name=name, nodeName=on)
        document = msgspec.to_builtins(made)
        document["metadata"]["ownerReferences"] = [{"kind": owner, "controller": True, "uid": "u"}]
        document["status"]["phase"] = phase
        return msgspec.convert(document, Pod)

    pods = [
        pod("here", "template", "DaemonSet"),
        pod("other-owner", "template", "ReplicaSet"),
        pod("elsewhere", "b", "DaemonSet"),
        pod("failed", "template", "DaemonSet", "Failed"),
    ]
    assert daemons_seen(gpu_node(), pods, demand_of) == (Daemon(1_000, 0),)


def daemon_set(name: str, cpu: str, *, leaving: bool = False) -> DaemonSet:
    metadata = {"namespace": "kube-system", "name": name}
    if leaving:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    containers = [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]
    return msgspec.convert(
        {
            "metadata": metadata,
            "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}},
        },
        DaemonSet,
    )


def test_the_watch_keeps_one_template_a_daemon_set_and_drops_what_goes():
    sets = DaemonSets(cast(Api, _Nothing()))
    assert not sets.settled
    sets.replaced([daemon_set("a", "1"), daemon_set("b", "2"), daemon_set("going", "9", leaving=True)])
    asked = [pod.spec.containers[0].resources.requests["cpu"] for pod in sets.templates()]
    assert asked == ["1", "2"]
    assert {pod.metadata.namespace for pod in sets.templates()} == {"kube-system"}
    sets.changed("MODIFIED", daemon_set("b", "3"))
    sets.changed("DELETED", daemon_set("a", "1"))
    sets.changed("MODIFIED", daemon_set("b", "3", leaving=True))
    assert sets.templates() == ()


class _Nothing:
    """An API server that nobody asks."""

    list_raw = watch = None
