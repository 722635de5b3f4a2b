"""A cluster's own pods let in again on its empty nodes: from a snapshot, through the command line."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from dra.resource_api import ResourceClaim
from kubectl_slicewise.__main__ import main
from scheduler.snapshot import Snapshot, encode, raws
from simulator.cluster_replay import POLICIES, present, read_cluster, replay
from simulator.cluster_rules import Loads, least_allocated, most_allocated
from tests.scheduler.fleet_objects import claim, node, slices

GPU = "nvidia.com/gpu"
QUIET = "apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\ncarbon: {provider: none}\n"


def gpu_node(name, gpus=4, cpu="32", **meta):
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": "NVIDIA-L40S", **meta}},
        "status": {"allocatable": {GPU: str(gpus), "cpu": cpu, "memory": "256Gi"}},
    }


def gpu_pod(name, gpus, on="", *, minute=0, cpu="1", **spec):
    return {
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": f"uid-{name}",
            "creationTimestamp": f"2026-11-21T09:{minute:02d}:00Z",
        },
        "spec": {
            "nodeName": on,
            "containers": [
                {
                    "name": "c",
                    "image": "m:1",
                    "resources": {"requests": {"cpu": cpu}, "limits": {GPU: str(gpus)} if gpus else {}},
                }
            ],
            **spec,
        },
        "status": {"phase": "Running" if on else "Pending"},
    }


def taken(nodes, pods, policy=QUIET, **more):
    found = {"nodes": nodes, "pods": pods, "policy": policy, **more}
    return Snapshot(
        **{
            name: [msgspec.Raw(msgspec.json.encode(item)) for item in value] if name != "policy" else value
            for name, value in found.items()
        }
    )


@pytest.fixture
def scattered():
    """Eight pods of one GPU, two on each of four nodes, and one of four GPUs that waits."""
    pods = [gpu_pod(f"p{n}", 1, on=f"n{n % 4}", minute=n) for n in range(8)]
    return taken([gpu_node(f"n{n}") for n in range(4)], [*pods, gpu_pod("big", 4, minute=30)])


def test_slicewise_keeps_nodes_free_and_places_what_waits(scattered):
    cluster = read_cluster(scattered, "test")
    now, ours = present(cluster), replay(cluster, "slicewise")
    assert (now.placed, now.usage.free_nodes, now.usage.largest_pod) == (8, 0, "2 GPUs")
    assert (ours.placed, ours.usage.free_nodes, ours.usage.largest_pod) == (9, 1, "4 GPUs")
    assert ours.usage.in_use == 12.0
    assert replay(cluster, "most-allocated").placed == 9
    assert replay(cluster, "least-allocated", seed=1).usage.free_nodes == 0


def test_every_policy_is_deterministic_and_within_capacity(scattered):
    cluster = read_cluster(scattered, "test")
    for policy in POLICIES:
        first, again = replay(cluster, policy, seed=5), replay(cluster, policy, seed=5)
        assert first == again
        assert first.usage.in_use <= first.usage.capacity
        assert first.placed <= len(cluster.arrivals)


def test_pods_arrive_by_age_on_nodes_that_admit_them():
    nodes = [
        gpu_node("a", 1),
        {**gpu_node("b", 1), "spec": {"unschedulable": True}},
        gpu_node("c", 1, zone="x"),
    ]
    young = gpu_pod("young", 1, minute=5)
    pods = [young, gpu_pod("old", 1, minute=1, nodeSelector={"zone": "x"}), gpu_pod("late", 1, minute=9)]
    cluster = read_cluster(taken(nodes, pods), "test")
    assert [arrival.pod.metadata.name for arrival in cluster.arrivals] == ["old", "young", "late"]
    for policy in POLICIES:
        assert replay(cluster, policy).placed == 2


def test_pods_without_a_creation_time_count_as_a_second_apart():
    def outcome(times):
        pods = [gpu_pod(f"p{number:02d}", 1 + number % 3, cpu="6") for number in range(40)]
        for number, pod in enumerate(pods):
            pod["metadata"]["creationTimestamp"] = times(number)
        nodes = [gpu_node(f"n{number:02d}") for number in range(24)]
        return replay(read_cluster(taken(nodes, pods), "test"), "slicewise")

    assert outcome(lambda number: None) == outcome(lambda number: f"2026-11-21T09:00:{number:02d}Z")


def test_cpu_of_pods_without_gpus_stays_taken():
    nodes = [gpu_node("a", 4, cpu="8"), gpu_node("b", 4, cpu="8")]
    pods = [gpu_pod("web", 0, on="a", cpu="6"), *(gpu_pod(f"p{n}", 1, minute=n, cpu="4") for n in range(4))]
    cluster = read_cluster(taken(nodes, pods), "test")
    for policy in POLICIES:
        outcome = replay(cluster, policy)
        assert outcome.placed == 2
        # Nothing of the cluster's own shape fits any more: what is free is of no use.
        assert outcome.usage.stranded == 6.0


def test_pods_that_cannot_be_replayed_stay_and_are_told():
    apart = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {}, "topologyKey": "kubernetes.io/hostname"}
            ]
        }
    }
    pods = [gpu_pod("tied", 1, on="a", affinity=apart), gpu_pod("free", 1, on="a")]
    cluster = read_cluster(taken([gpu_node("a"), gpu_node("b")], pods), "test")
    assert dict(cluster.kept) == {"its place depends on other pods (pod affinity)": 1}
    assert len(cluster.arrivals) == 1
    assert replay(cluster, "slicewise").usage.in_use == 2.0


@pytest.mark.parametrize("extended", [False, True])
def test_mig_pods_with_claims_are_replayed_without_their_old_devices(extended):
    nodes = [node(name) for name in ("a", "b")]
    pods, claims = [], []
    for number, name in enumerate(("a", "b")):
        claims.append(
            claim(
                f"c{number}",
                devices=["gpu-0-mig-1g10gb-19-0"],
                on=name,
                profile="1g.10gb",
                owner=None if extended else f"m{number}",
            )
        )
        pod = gpu_pod(f"m{number}", 0, on=name, minute=number)
        if extended:
            pod["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/mig-1g.10gb": "1"}
            pod["status"]["extendedResourceClaimStatus"] = {"resourceClaimName": f"c{number}"}
        else:
            pod["spec"]["resourceClaims"] = [{"name": "g", "resourceClaimName": f"c{number}"}]
        pod["metadata"]["namespace"] = "default"
        pods.append(pod)
    snapshot = Snapshot(
        nodes=raws(nodes),
        pods=[msgspec.Raw(msgspec.json.encode(pod)) for pod in pods],
        resource_slices=[raw for name in ("a", "b") for raw in raws(slices(name))],
        resource_claims=raws(claims),
        policy=QUIET,
    )
    cluster = read_cluster(snapshot, "test")
    assert len(cluster.arrivals) == 2
    now, ours = present(cluster), replay(cluster, "slicewise")
    assert now.usage.free_nodes == 0
    assert ours.usage.free_nodes == 1
    assert ours.usage.in_use == pytest.approx(now.usage.in_use)
    assert msgspec.json.decode(raws(claims)[0], type=ResourceClaim).status.allocation is not None


def test_the_rules_are_those_of_kube_scheduler():
    loads = Loads(np.array([0.25, 0.5]), np.array([0.75, 0.5]), np.array([0.0, 1.0]))
    # Least: (75 + 25)/2 + 100·(1 − 0.5/2); (50 + 50)/2 + 100.
    assert least_allocated(loads).tolist() == [50.0 + 75.0, 50.0 + 100.0]
    assert most_allocated(loads).tolist() == [33.0, 66.0]


def write(tmp_path, snapshot):
    file = tmp_path / "cluster.json"
    file.write_bytes(encode(snapshot))
    return str(file)


def test_the_command_tells_what_slicewise_would_have_done(tmp_path, capsys, scattered):
    file = write(tmp_path, scattered)
    assert main(["simulate", "packing", "--snapshot", file, "--seeds", "2", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["pods"] == {"replayed": 9, "waiting": 1, "left_in_place": {}}
    assert set(shown["policies"]) == set(POLICIES)
    assert shown["nodes_could_be_emptied"] == 1
    assert shown["bound"] == {"free_nodes": 1}
    assert shown["now"]["placed"] == 8
    assert main(["simulate", "packing", "--snapshot", file, "--policy", "slicewise"]) == 0
    text = capsys.readouterr().out
    assert "4 GPU nodes, 16 GPUs, 9 GPU pods, 1 of them waiting" in text
    assert "Slicewise would have placed 1 pod more than run now." in text
    assert "least-allocated" not in text


@pytest.mark.parametrize(
    ("flags", "words", "status"),
    [
        ([], "--nodes and --pods: got neither, expected both, or --from-cluster", 2),
        (["--from-cluster", "--nodes", "x.csv"], "got a list beside a cluster", 2),
        (["--from-cluster", "--snapshot", "x"], "got both", 2),
        (["--snapshot", "x", "--policy", "fgd"], "--policy: got fgd, expected any of slicewise", 2),
        (["--nodes", "x", "--pods", "y", "--policy", "least-allocated"], "--policy: got least-allocated", 2),
        (["--snapshot", "/nowhere/x"], "/nowhere/x: cannot be read", 2),
        (["--from-cluster", "--kubeconfig", "/nowhere/k"], "/nowhere/k", 2),
    ],
)
def test_mistakes_are_told_in_one_line(capsys, flags, words, status):
    assert main(["simulate", "packing", *flags]) == status
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("nodes", "words"),
    [([gpu_node("a")], "no GPU pod to replay"), ([gpu_node("a", 0)], "no node offers a GPU")],
)
def test_an_empty_cluster_is_told(tmp_path, capsys, nodes, words):
    file = write(tmp_path, taken(nodes, []))
    assert main(["simulate", "packing", "--snapshot", file]) == 1
    assert words in capsys.readouterr().err
