"""Moving running pods, and preemption, on the real API server, kube-scheduler and controller manager: budgets
hold, the waiting pod gets the room, the successor its place.
"""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.scheduler_run import extended_config
from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from deploy.local.rest import SUCCESS, plain_get
from dra.catalog import models
from dra.inventory import Gpu, NodeInventory
from dra.nvlink import nvswitch
from dra.slices import nvidia_slices
from tests.polling import pause, until

H100 = models()["H100-80GB"]
NODES = ("repack-1", "repack-2")
PROFILES = ("1g.10gb", "3g.40gb", "4g.40gb")
DRA = "/apis/resource.k8s.io/v1"
MAPS = "/api/v1/namespaces/slicewise-system/configmaps"
HEADER = "apiVersion: slicewise.io/v1alpha1\nkind: ClusterPolicy\ncarbon: {provider: none}\n"
REPACK = (
    "repack: {mode: MODE, intervalSeconds: 1, waitingSeconds: 1, minPodAgeSeconds: 0, savings: false, "
    "preemptClaims: PREEMPT}\n"
)


def policy(mode: str, preempt: str = "false") -> str:
    return HEADER + REPACK.replace("MODE", mode).replace("PREEMPT", preempt)


def start(cluster, account, module, port, *arguments):
    kubeconfig = str(cluster.kubeconfig_for(account))
    command = [sys.executable, "-m", module, "--listen", f"127.0.0.1:{port}", "--kubeconfig", kubeconfig]
    cluster.processes.start(account, [*command, *arguments])
    cluster.wait_until_healthy(account, lambda: plain_get(f"http://127.0.0.1:{port}/readyz", 10.0))


def write_policy(cluster, text):
    body = {"data": {"policy.yaml": text}}
    cluster.request("PATCH", f"{MAPS}/slicewise-policy", body, "application/merge-patch+json")


def device_class(profile):
    part = (
        "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'mig'"
        f" && device.attributes['gpu.nvidia.com'].profile == '{profile}'"
    )
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": f"repack-{profile.replace('.', '')}"},
        "spec": {
            "selectors": [{"cel": {"expression": part}}],
            "extendedResourceName": f"nvidia.com/mig-{profile}",
        },
    }


def inventory(node):
    from dra.mig import geometry

    order = geometry(H100).least_harm_order(0, {})
    gpu = Gpu(0, f"GPU-{node}", H100, True, "NVIDIA H100 80GB HBM3")
    return NodeInventory(node, "nvidia", "gpu.nvidia.com", node, (gpu,), nvswitch(H100, 1), (order,), {}, {})


@pytest.fixture(scope="module")
def mig_cluster(control_plane):
    """Two nodes with one H100 each behind NVIDIA's DRA driver, both our processes, and a scheduler."""
    cluster = control_plane
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "slicewise-policy", "namespace": "slicewise-system"},
        "data": {"policy.yaml": policy("dry-run")},
    }
    cluster.apply([config_map])
    for value, name in ((1000, "repack-high"), (10, "repack-low")):
        document = {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
        }
        cluster.request("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", document)
    names = create_nodes(cluster, [node_manifest(name) for name in NODES])
    published = []
    for profile in PROFILES:
        cluster.request("POST", f"{DRA}/deviceclasses", device_class(profile))
    for name in NODES:
        for document in nvidia_slices(inventory(name)):
            published.append(cluster.request("POST", f"{DRA}/resourceslices", document)["metadata"]["name"])
    port = cluster.claim_port()
    start(cluster, "slicewise-scheduler", "scheduler", port)
    control = cluster.claim_port()
    start(cluster, "slicewise-controller", "autoscaler", control, "--prometheus-url", "http://127.0.0.1:9")
    cluster.restart_scheduler(extended_config(f"http://127.0.0.1:{port}"))
    cluster.repack_port = control
    yield cluster
    cluster.restart_scheduler({})
    cluster.processes.stop(["slicewise-controller", "slicewise-scheduler"], 10)
    delete_nodes(cluster, names)
    for name in published:
        cluster.request("DELETE", f"{DRA}/resourceslices/{name}", accepted=SUCCESS | {404})
    for profile in PROFILES:
        cluster.request("DELETE", f"{DRA}/deviceclasses/{device_class(profile)['metadata']['name']}")
    for name in ("repack-high", "repack-low"):
        cluster.request("DELETE", f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")
    cluster.request("DELETE", f"{MAPS}/slicewise-policy")


def template(name, limits, node=None, priority=None):
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "model:1", "resources": {"limits": limits}}],
    }
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    if priority:
        spec["priorityClassName"] = priority
    return {"metadata": {"labels": {"app": name}}, "spec": spec}


def deployment(cluster, namespace, name, limits, node=None, priority=None, replicas=1):
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, limits, node, priority),
        },
    }
    cluster.request("POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", body)


def pod(cluster, namespace, name, limits, node=None, priority=None):
    body = template(name, limits, node, priority)
    body |= {"apiVersion": "v1", "kind": "Pod"}
    body["metadata"]["name"] = name
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)


def pods(cluster, namespace, app):
    items = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}")["items"]
    return [item for item in items if not item["metadata"].get("deletionTimestamp")]


def bound(cluster, namespace, app, count=1):
    def look():
        found = [item for item in pods(cluster, namespace, app) if item["spec"].get("nodeName")]
        return found if len(found) == count else None

    return until(look, 90, f"{count} pods of {app} bound")


def bound_to(cluster, namespace, app, node):
    """The one pod of a workload, on this node. A pod that comes at the same moment as a cordon may yet be
    scheduled past it: its successor is not.
    """

    def look():
        (found,) = bound(cluster, namespace, app)
        if found["spec"]["nodeName"] == node:
            return found
        path = f"/api/v1/namespaces/{namespace}/pods/{found['metadata']['name']}"
        cluster.request("DELETE", path, accepted=SUCCESS | {404})
        return None

    return until(look, 30, f"{app} bound to {node}")


def cordon(cluster, node, value):
    cluster.request(
        "PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": value}}, "application/merge-patch+json"
    )


def newest(cluster):
    return json.loads(plain_get(f"http://127.0.0.1:{cluster.repack_port}/repack", 30.0))


def test_a_pod_is_moved_for_a_waiting_one_when_mode_and_budget_allow(mig_cluster, namespace):
    cluster = mig_cluster
    cordon(cluster, "repack-2", True)
    deployment(cluster, namespace, "small", {"nvidia.com/mig-1g.10gb": "1"})
    small = bound_to(cluster, namespace, "small", "repack-1")
    cordon(cluster, "repack-2", None)
    deployment(cluster, namespace, "pinned", {"nvidia.com/mig-1g.10gb": "1"}, node="repack-2")
    bound(cluster, namespace, "pinned")
    pod(cluster, namespace, "big", {"nvidia.com/mig-4g.40gb": "1"})

    # Dry run: it says what it would do, and does nothing.
    made = until(lambda: [m for m in newest(cluster)["moves"] if m["for"]], 90, "a plan")
    assert [(m["pod"].split("/")[1], m["from"], m["to"]) for m in made] == [
        (small["metadata"]["name"], "repack-1", "repack-2")
    ]

    # On, but a budget that allows no disruption.
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "small"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "small"}}},
    }
    path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    cluster.request("POST", path, budget)
    until(
        lambda: any(one["pod"] == f"{namespace}/big" for one in newest(cluster)["unmet"]),
        90,
        "big is said to be unmet",
    )
    write_policy(cluster, policy("on"))
    pause(2.5)  # two looks
    assert [item["metadata"]["uid"] for item in pods(cluster, namespace, "small")] == [
        small["metadata"]["uid"]
    ]

    # The budget goes: the pod is moved, its successor has the place that was held, big the room.
    cluster.request("DELETE", f"{path}/small")
    (big,) = bound(cluster, namespace, "big")
    assert big["spec"]["nodeName"] == "repack-1"
    (successor,) = bound(cluster, namespace, "small")
    assert successor["spec"]["nodeName"] == "repack-2"
    assert successor["metadata"]["uid"] != small["metadata"]["uid"]

    def reasons():
        events = cluster.request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
        return {event["reason"] for event in events} >= {"Repacked", "RoomMade"}

    until(reasons, 10, "the Events")
    write_policy(cluster, policy("dry-run"))


def test_the_preempt_verb_evicts_one_large_pod_and_not_four_small_ones(mig_cluster, namespace):
    cluster = mig_cluster
    labels = {"nvidia.com/gpu.product": H100.products[0], "nvidia.com/gpu.count": "8", "pool": "preempt"}
    manifest = node_manifest("preempt-1", labels=labels, allocatable={"nvidia.com/gpu": "8"})
    create_nodes(cluster, [manifest])
    try:
        # The large one is older: kube-scheduler alone would spare it and evict the four.
        pod(cluster, namespace, "large", {"nvidia.com/gpu": "4"}, priority="repack-low")
        bound(cluster, namespace, "large")
        pause(1.1)  # start times are whole seconds
        for number in range(4):
            pod(cluster, namespace, f"s{number}", {"nvidia.com/gpu": "1"}, priority="repack-low")
        for number in range(4):
            bound(cluster, namespace, f"s{number}")
        pod(cluster, namespace, "urgent", {"nvidia.com/gpu": "4"}, priority="repack-high")
        bound(cluster, namespace, "urgent")
        assert pods(cluster, namespace, "large") == []
        assert all(pods(cluster, namespace, f"s{number}") for number in range(4))
    finally:
        delete_nodes(cluster, ["preempt-1"])


def test_claims_are_preempted_for_by_the_repacker_where_kube_scheduler_does_not(mig_cluster, namespace):
    cluster = mig_cluster
    cordon(cluster, "repack-2", True)
    try:
        limits = {"nvidia.com/mig-1g.10gb": "1"}
        for number in range(7):
            pod(cluster, namespace, f"low{number}", limits, node="repack-1", priority="repack-low")
        for number in range(7):
            bound(cluster, namespace, f"low{number}")
        pod(cluster, namespace, "urgent", {"nvidia.com/mig-3g.40gb": "1"}, priority="repack-high")

        def refused():
            (waiting,) = pods(cluster, namespace, "urgent")
            conditions = waiting["status"].get("conditions") or ()
            return any(item.get("reason") == "Unschedulable" for item in conditions)

        until(refused, 15, "kube-scheduler has tried")
        # kube-scheduler 1.36 counts the victims' claims as still held, and so evicts nobody.
        pause(1.0)
        assert all(pods(cluster, namespace, f"low{number}") for number in range(7))
        write_policy(cluster, policy("on", preempt="true"))
        bound(cluster, namespace, "urgent")
        gone = [number for number in range(7) if not pods(cluster, namespace, f"low{number}")]
        assert len(gone) == 3
    finally:
        write_policy(cluster, policy("dry-run"))
        cordon(cluster, "repack-2", None)
