"""The planned road on the real control plane: waiting GPU pods are nominated and land where they were
nominated; gates hold a pod for its plan and never longer.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.scheduler_run import extended_config, gpu_nodes, gpu_pod
from deploy.local.kwok_nodes import create_nodes, delete_nodes
from deploy.local.rest import SUCCESS, plain_get
from tests.polling import until

MANIFESTS = Path("deploy/manifests")
GATE_TIMEOUT_SECONDS = 3
POLICY = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "slicewise-policy", "namespace": "slicewise-system"},
    "data": {
        "policy.yaml": "apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\n"
        "carbon: {provider: none}\n"
        f"planner: {{gateTimeoutSeconds: {GATE_TIMEOUT_SECONDS}}}\n"
    },
}


@pytest.fixture(scope="module")
def gpu_cluster(control_plane):
    """Six 8-GPU nodes, slicewise-scheduler, and a kube-scheduler that asks it."""
    control_plane.apply([POLICY])
    names = create_nodes(control_plane, gpu_nodes(6))
    port = control_plane.claim_port()
    start(control_plane, "slicewise-scheduler", "scheduler", port)
    control_plane.restart_scheduler(extended_config(f"http://127.0.0.1:{port}"))
    yield control_plane
    control_plane.restart_scheduler({})
    control_plane.processes.stop(["slicewise-scheduler"], 10)
    delete_nodes(control_plane, names)
    control_plane.request("DELETE", "/api/v1/namespaces/slicewise-system/configmaps/slicewise-policy")
    for plural in ("mutatingadmissionpolicybindings", "mutatingadmissionpolicies"):
        path = f"/apis/admissionregistration.k8s.io/v1/{plural}/slicewise-plan-gate"
        control_plane.request("DELETE", path, accepted=SUCCESS | {404})


@pytest.fixture
def controller(gpu_cluster):
    """slicewise-controller with the rights of its own account."""
    start(
        gpu_cluster,
        "slicewise-controller",
        "autoscaler",
        gpu_cluster.claim_port(),
        "--prometheus-url",
        "http://127.0.0.1:9",
    )
    yield
    gpu_cluster.processes.stop(["slicewise-controller"], 10)


def start(cluster, account, module, port, *arguments):
    kubeconfig = str(cluster.kubeconfig_for(account))
    command = [sys.executable, "-m", module, "--listen", f"127.0.0.1:{port}", "--kubeconfig", kubeconfig]
    cluster.processes.start(account, [*command, *arguments])
    cluster.wait_until_healthy(account, lambda: plain_get(f"http://127.0.0.1:{port}/readyz", 10.0))


def pods(cluster, namespace):
    items = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return {item["metadata"]["name"]: item for item in items}


def create(cluster, namespace, name, gpus, **spec):
    pod = gpu_pod(name, gpus)
    pod["metadata"]["namespace"] = namespace
    pod["spec"].update(spec)
    return cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)


def nodes_by_pod(cluster, namespace, count):
    def bound():
        nodes = {name: pod["spec"].get("nodeName") for name, pod in pods(cluster, namespace).items()}
        return nodes if len(nodes) == count and all(nodes.values()) else None

    return until(bound, 30, f"{count} pods bound")


def test_waiting_pods_are_nominated_packed_and_bound_where_nominated(gpu_cluster, controller, namespace):
    gpu_cluster.stop_scheduler()
    try:
        for number in range(8):
            create(gpu_cluster, namespace, f"p{number}", 2)

        def nominated():
            wanted = {
                name: pod["status"].get("nominatedNodeName")
                for name, pod in pods(gpu_cluster, namespace).items()
            }
            return wanted if all(wanted.values()) else None

        wanted = until(nominated, 20, "8 nominations")
    finally:
        gpu_cluster.start_scheduler(gpu_cluster_config(gpu_cluster))
    assert nodes_by_pod(gpu_cluster, namespace, 8) == wanted
    # Sixteen GPUs fit on two nodes, and packing leaves the others whole.
    assert len(set(wanted.values())) == 2


def gpu_cluster_config(cluster):
    """The configuration that the scheduler last ran with, as the fixture wrote it."""
    import json

    document = json.loads((cluster.directory / "kube-scheduler.yaml").read_text())
    return {key: document[key] for key in ("percentageOfNodesToScore", "profiles", "extenders")}


def test_a_plan_keeps_to_the_nodes_a_pod_may_use(gpu_cluster, controller, namespace):
    create(gpu_cluster, namespace, "picky", 1, nodeSelector={"kubernetes.io/hostname": "gpu-00004"})
    assert nodes_by_pod(gpu_cluster, namespace, 1) == {"picky": "gpu-00004"}


def gate_policy(cluster, namespace):
    cluster.apply(MANIFESTS / "plan-gate.yaml")
    label = {"metadata": {"labels": {"slicewise.io/managed": "true"}}}
    cluster.request("PATCH", f"/api/v1/namespaces/{namespace}", label, "application/merge-patch+json")

    # The admission plugin learns of a new policy by its own watch.
    def gated():
        probe = gpu_pod("probe")
        probe["metadata"]["namespace"] = namespace
        path = f"/api/v1/namespaces/{namespace}/pods"
        answer = cluster.request("POST", f"{path}?dryRun=All", probe)
        return answer["spec"].get("schedulingGates")

    until(gated, 20, "the gate policy in force")


def test_a_gated_pod_is_planned_and_released(gpu_cluster, controller, namespace):
    gate_policy(gpu_cluster, namespace)
    create(gpu_cluster, namespace, "gated", 1)
    nodes_by_pod(gpu_cluster, namespace, 1)
    assert not pods(gpu_cluster, namespace)["gated"]["spec"].get("schedulingGates")


def test_without_a_controller_the_scheduler_process_releases_the_gate_after_the_timeout(
    gpu_cluster, namespace
):
    gate_policy(gpu_cluster, namespace)
    started = time.monotonic()
    alone = create(gpu_cluster, namespace, "alone", 1)
    assert alone["spec"]["schedulingGates"] == [{"name": "slicewise.io/plan"}]
    nodes_by_pod(gpu_cluster, namespace, 1)
    assert time.monotonic() - started >= GATE_TIMEOUT_SECONDS


def test_explain_prints_the_bill_of_a_bound_pod_on_the_real_cluster(gpu_cluster, controller, namespace):
    create(gpu_cluster, namespace, "priced", 2)
    chosen = nodes_by_pod(gpu_cluster, namespace, 1)["priced"]
    explain = ["explain", "pod", "priced", "-n", namespace, "--kubeconfig", str(gpu_cluster.kubeconfig)]
    done = subprocess.run(
        [sys.executable, "-m", "kubectl_slicewise", *explain],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "USD per hour" in lines[0]
    assert next(line for line in lines if " chosen " in line).startswith(chosen)
    assert sum(" next best " in line for line in lines) == 3
