"""Gangs on the real kube-scheduler: random sets with contention, and gangs of the Workload API."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.gang_trial import run_trials, wait_for_gate
from benchmarks.scheduler_run import extended_config
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, node_manifest
from deploy.local.rest import plain_get
from tests.polling import until

MANIFESTS = Path("deploy/manifests")
GPU = "nvidia.com/gpu"
POD_GROUPS = "/apis/scheduling.k8s.io/v1alpha2"


def start_ours(cluster):
    """The policy, the gate, slicewise-scheduler and slicewise-controller with their own rights."""
    cluster.apply(MANIFESTS / "policy.yaml")
    cluster.apply(MANIFESTS / "plan-gate.yaml")
    ports = {}
    for account, module in (("slicewise-scheduler", "scheduler"), ("slicewise-controller", "autoscaler")):
        port = ports[account] = cluster.claim_port()
        command = [sys.executable, "-m", module, "--listen", f"127.0.0.1:{port}"]
        command += ["--kubeconfig", str(cluster.kubeconfig_for(account))]
        if module == "autoscaler":
            command += ["--prometheus-url", "http://127.0.0.1:9"]
        cluster.processes.start(account, command)
        cluster.wait_until_healthy(
            account, lambda port=port: plain_get(f"http://127.0.0.1:{port}/readyz", 2.0)
        )
    return extended_config(f"http://127.0.0.1:{ports['slicewise-scheduler']}")


@pytest.fixture
def planned(control_plane):
    """The shared control plane with everything of ours, left as it was."""
    config = start_ours(control_plane)
    control_plane.restart_scheduler(config)
    yield control_plane
    control_plane.restart_scheduler({})
    control_plane.processes.stop(["slicewise-controller", "slicewise-scheduler"], 10)
    for path in (
        "/api/v1/namespaces/slicewise-system/configmaps/slicewise-policy",
        "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings/slicewise-plan-gate",
        "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/slicewise-plan-gate",
        "/apis/scheduling.k8s.io/v1/priorityclasses/urgent",
    ):
        control_plane.request("DELETE", path, accepted=range(200, 500))


def test_no_gang_is_ever_bound_in_part_and_everybody_has_its_turn(planned):
    trials = run_trials(planned, range(201, 211))
    assert {trial.number: trial.partial for trial in trials if trial.partial} == {}
    assert {trial.number: trial.starved for trial in trials if trial.starved} == {}
    assert sum(len({gang for gang, *_ in trial.case.pods if gang}) for trial in trials) >= 20


def test_gangs_of_the_workload_api_are_released_whole():
    gates = {"GenericWorkload": True, "GangScheduling": True}
    served = {"scheduling.k8s.io/v1alpha2": "true"}
    with ControlPlane(with_scheduler=False, feature_gates=gates, runtime_config=served) as cluster:
        labels = {
            "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
            "nvidia.com/gpu.count": "4",
            "nvidia.com/gpu.memory": "81559",
        }
        create_nodes(
            cluster, [node_manifest(f"n{i}", labels=labels, allocatable={GPU: "4"}) for i in range(2)]
        )
        cluster.start_scheduler(start_ours(cluster))
        namespace = {"metadata": {"name": "w", "labels": {"slicewise.io/managed": "true"}}}
        cluster.request("POST", "/api/v1/namespaces", namespace)
        wait_for_gate(cluster, "w")
        for name in ("a", "b"):
            group = {
                "apiVersion": "scheduling.k8s.io/v1alpha2",
                "kind": "PodGroup",
                "metadata": {"name": name},
                "spec": {"schedulingPolicy": {"gang": {"minCount": 3}}},
            }
            cluster.request("POST", f"{POD_GROUPS}/namespaces/w/podgroups", group)
            for index in range(3):
                cluster.request("POST", "/api/v1/namespaces/w/pods", grouped_pod(f"{name}{index}", name))
        bound = wait_for_bound(cluster, 3)
        first = {name[0] for name in bound}
        assert len(first) == 1
        for name in bound:
            cluster.request("DELETE", f"/api/v1/namespaces/w/pods/{name}")
        second = wait_for_bound(cluster, 3)
        assert {name[0] for name in second} == {"a", "b"} - first


def grouped_pod(name, group):
    return {
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "schedulingGroup": {"podGroupName": group},
            "containers": [{"name": "c", "image": "m:1", "resources": {"limits": {GPU: "2"}}}],
        },
    }


def wait_for_bound(cluster, count):
    """Names of the bound pods once there are so many; every gang is bound in full or not at all by then."""

    def bound():
        items = cluster.request("GET", "/api/v1/namespaces/w/pods")["items"]
        found = [pod["metadata"]["name"] for pod in items if pod["spec"].get("nodeName")]
        return sorted(found) if len(found) >= count else None

    return until(bound, 40, f"{count} pods bound")
