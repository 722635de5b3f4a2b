"""``simulate packing --from-cluster`` against a real API server: nodes and pods as a cluster holds them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from tests.polling import until

LABELS = {"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068"}


@pytest.fixture
def gpu_nodes(control_plane):
    names = create_nodes(
        control_plane,
        [
            node_manifest(f"replay-{n}", labels=LABELS, allocatable={"nvidia.com/gpu": "4"}, taints=())
            for n in range(3)
        ],
    )
    yield names
    delete_nodes(control_plane, names)


def wait_until_alone(cluster, within_seconds=30.0):
    """Until the pods of earlier tests are gone: the command sees the whole cluster."""
    until(
        lambda: not cluster.request("GET", "/api/v1/pods")["items"],
        within_seconds,
        "the pods of earlier tests to be gone",
    )


def create_pod(cluster, namespace, name, gpus, node=""):
    cluster.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/pods",
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "schedulerName": "nobody",
                **({"nodeName": node} if node else {}),
                "containers": [
                    {"name": "c", "image": "m:1", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
                ],
            },
        },
    )


def test_a_scattered_cluster_is_shown_what_packing_would_have_freed(control_plane, gpu_nodes, namespace):
    wait_until_alone(control_plane)
    for number, node in enumerate(gpu_nodes):
        create_pod(control_plane, namespace, f"small-{number}", 1, node)
    create_pod(control_plane, namespace, "big", 4)
    kubeconfig = str(control_plane.kubeconfig_for("slicewise-scheduler"))
    command = [sys.executable, "-m", "kubectl_slicewise", "simulate", "packing", "--from-cluster"]
    done = subprocess.run(
        [*command, "--kubeconfig", kubeconfig, "--seeds", "1", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["cluster"].startswith("the cluster at http")
    assert (shown["nodes"], shown["gpus"]) == (3, 12.0)
    assert shown["pods"] == {"replayed": 4, "waiting": 1, "left_in_place": {}}
    assert shown["now"]["free_nodes"] == 0
    assert shown["now"]["largest_pod"] == "3 GPUs"
    ours = shown["policies"]["slicewise"]
    assert (ours["placed"], ours["free_nodes"], ours["largest_pod"]) == (4, 1, "4 GPUs")
    assert shown["nodes_could_be_emptied"] == 1
