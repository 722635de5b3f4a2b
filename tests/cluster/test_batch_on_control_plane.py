"""Completion windows on the real control plane: real Jobs are suspended as they come, held through a dirty
hour, released in a clean one, released at once when their deadline is near, and not stranded when the
controller dies.

The recorded carbon file is set so that its clean hour begins some seconds after the controller's start.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.scheduler_run import gpu_nodes
from cluster.times import rfc3339, unix_seconds
from deploy.local.kwok_nodes import create_nodes, delete_nodes
from deploy.local.rest import SUCCESS, plain_get
from scheduler.windows.guard import GRACE_SECONDS
from scheduler.windows.read import (
    EXPECTED,
    PLANNED_START,
    RELEASE_BY,
    RELEASED_AT,
    WINDOW,
)
from tests.polling import throughout, until

MANIFESTS = Path("deploy/manifests")
DIRTY_SECONDS = 25
POLICIES = "/apis/admissionregistration.k8s.io/v1"
NAMES = ("slicewise-batch-window", "slicewise-batch-window-pods")
POLICY = """apiVersion: slicewise.io/v1alpha1
kind: ClusterPolicy
carbon: {{provider: file, file: {file}, fileClockStart: {start}}}
batch: {{queueSeconds: 0, periodSeconds: 2}}
"""


@pytest.fixture(scope="module")
def batch_cluster(control_plane, tmp_path_factory):
    """Two 8-GPU nodes, admission that suspends, slicewise-scheduler; the policy knows one clean hour."""
    table = tmp_path_factory.mktemp("carbon") / "hours.csv"
    hours = [f"2023-06-05T{hour:02}:00Z,{40 if hour == 11 else 500}" for hour in range(24)]
    table.write_text("time_utc,GB\n" + "\n".join(hours) + "\n", encoding="utf-8")
    begin = datetime(2023, 6, 5, 10, 59, 60 - DIRTY_SECONDS, tzinfo=UTC).isoformat()
    policy = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "slicewise-policy", "namespace": "slicewise-system"},
        "data": {"policy.yaml": POLICY.format(file=table, start=begin)},
    }
    control_plane.apply([policy])
    control_plane.apply(MANIFESTS / "batch-window.yaml")
    nodes = create_nodes(control_plane, gpu_nodes(2))
    start(control_plane, "slicewise-scheduler", "scheduler")
    yield control_plane
    control_plane.processes.stop(["slicewise-scheduler"], 10)
    delete_nodes(control_plane, nodes)
    for name in NAMES:
        for plural in ("mutatingadmissionpolicybindings", "mutatingadmissionpolicies"):
            control_plane.request("DELETE", f"{POLICIES}/{plural}/{name}", accepted=SUCCESS | {404})
    control_plane.request("DELETE", "/api/v1/namespaces/slicewise-system/configmaps/slicewise-policy")


@pytest.fixture
def controller(batch_cluster):
    """slicewise-controller with the rights of its own account."""
    start(batch_cluster, "slicewise-controller", "autoscaler", "--prometheus-url", "http://127.0.0.1:9")
    yield batch_cluster
    batch_cluster.processes.stop(["slicewise-controller"], 10)


def start(cluster, account, module, *arguments):
    port = cluster.claim_port()
    kubeconfig = str(cluster.kubeconfig_for(account))
    command = [sys.executable, "-m", module, "--listen", f"127.0.0.1:{port}", "--kubeconfig", kubeconfig]
    cluster.processes.start(account, [*command, *arguments])
    cluster.wait_until_healthy(account, lambda: plain_get(f"http://127.0.0.1:{port}/readyz", 2.0))


def job_manifest(name, annotations, labels=None, gpus=1, **spec):
    container = {"name": "c", "image": "train:1", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "annotations": annotations, "labels": labels or {}},
        "spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}, **spec},
    }


def create_job(cluster, namespace, *arguments, **spec):
    manifest = job_manifest(*arguments, **spec)
    return cluster.request("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", manifest)


def pod_manifest(annotations):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare", "annotations": annotations},
        "spec": {"containers": [{"name": "c", "image": "train:1"}]},
    }


def read_job(cluster, namespace, name):
    return cluster.request("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}")


def suspended_by_admission(cluster, namespace):
    """Admission policies take a moment to be in force, each its own: ask until both work."""
    window = {WINDOW: "24h"}
    asked = {
        f"/apis/batch/v1/namespaces/{namespace}/jobs": (job_manifest("probe", window), "suspend"),
        f"/api/v1/namespaces/{namespace}/pods": (pod_manifest(window), "schedulingGates"),
    }
    for path, (manifest, key) in asked.items():
        until(
            lambda path=path, manifest=manifest, key=key: cluster.request(
                "POST", f"{path}?dryRun=All", manifest
            )["spec"].get(key),
            20.0,
            f"the admission policy sets {key}",
        )


def events(cluster, namespace, name):
    found = cluster.request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
    return [one["reason"] for one in found if one["regarding"].get("name") == name]


def released(cluster, namespace, name):
    job = read_job(cluster, namespace, name)
    return job if not job["spec"].get("suspend") else None


def test_jobs_wait_for_the_clean_hour_and_then_run(batch_cluster, namespace, request):
    cluster = batch_cluster
    suspended_by_admission(cluster, namespace)
    window = {WINDOW: "2h", EXPECTED: "10m"}
    assert create_job(cluster, namespace, "train-1", window)["spec"]["suspend"] is True
    queued = create_job(
        cluster, namespace, "queued-1", window, {"kueue.x-k8s.io/queue-name": "team"}, suspend=True
    )
    pod = cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod_manifest(window))
    assert [gate["name"] for gate in pod["spec"]["schedulingGates"]] == ["slicewise.io/window"]

    request.getfixturevalue("controller")
    near = create_job(cluster, namespace, "near-1", {WINDOW: "20m", EXPECTED: "20m"})
    assert near["spec"]["suspend"] is True
    late = until(lambda: released(cluster, namespace, "near-1"), 20.0, "the late job is released")
    assert RELEASED_AT in late["metadata"]["annotations"]
    noted = until(
        lambda: read_job(cluster, namespace, "train-1")["metadata"]["annotations"].get(PLANNED_START),
        20.0,
        "the plan is noted on the job",
    )
    job = read_job(cluster, namespace, "train-1")
    if job["spec"]["suspend"]:
        created = unix_seconds(job["metadata"]["creationTimestamp"])
        by = unix_seconds(job["metadata"]["annotations"][RELEASE_BY])
        assert created < unix_seconds(noted) < by < created + 2 * 3600
    until(lambda: released(cluster, namespace, "train-1"), 60.0, "the clean hour releases the job")
    until(lambda: read_job(cluster, namespace, "train-1")["status"].get("active"), 20.0, "its pod is there")
    until(
        lambda: (
            not cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/bare")["spec"].get(
                "schedulingGates"
            )
        ),
        20.0,
        "the gate of the pod is taken away",
    )
    assert read_job(cluster, namespace, queued["metadata"]["name"])["spec"]["suspend"] is True
    until(lambda: "BatchReleased" in events(cluster, namespace, "train-1"), 10.0, "an Event tells of it")
    until(
        lambda: "BatchAtRisk" in events(cluster, namespace, "near-1"), 10.0, "an Event warns of the late one"
    )


def test_a_controller_that_dies_strands_no_job(batch_cluster, namespace, request):
    cluster = batch_cluster
    suspended_by_admission(cluster, namespace)
    request.getfixturevalue("controller")
    create_job(cluster, namespace, "orphan-1", {WINDOW: "12h", EXPECTED: "10m"})
    until(
        lambda: RELEASE_BY in read_job(cluster, namespace, "orphan-1")["metadata"]["annotations"],
        20.0,
        "the controller notes the latest start",
    )
    os.kill(cluster.processes.pids["slicewise-controller"], signal.SIGKILL)
    throughout(lambda: read_job(cluster, namespace, "orphan-1")["spec"]["suspend"], 2.0, "the job is held")
    # Eleven hours later, as far as the job knows: its latest start has come.
    body = {"metadata": {"annotations": {RELEASE_BY: rfc3339(time.time() - GRACE_SECONDS)}}}
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/orphan-1"
    cluster.request("PATCH", path, body, "application/merge-patch+json")
    job = until(lambda: released(cluster, namespace, "orphan-1"), 30.0, "the scheduler's guard releases it")
    assert RELEASED_AT in job["metadata"]["annotations"]
    until(lambda: read_job(cluster, namespace, "orphan-1")["status"].get("active"), 20.0, "its pod is there")
