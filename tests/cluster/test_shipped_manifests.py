"""What is shipped for a cluster of one's own: flags that exist, Services that find their pods, and a
kube-scheduler beside slicewise-scheduler that binds with no more than the rights of the manifests.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from autoscaler.__main__ import parser as controller_parser
from deploy.local import binaries, commands
from deploy.local.apply import load, object_path
from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from deploy.local.rest import SUCCESS
from scheduler.__main__ import parser as scheduler_parser
from tests.polling import until

MANIFESTS = Path(__file__).parents[2] / "deploy" / "manifests"
PARSERS = {"slicewise-controller": controller_parser, "slicewise-scheduler": scheduler_parser}
DEPLOYMENTS = {
    document["metadata"]["name"]: document
    for file in ("controller.yaml", "scheduler.yaml")
    for document in load(MANIFESTS / file)
    if document["kind"] == "Deployment"
}
SYSTEM = "slicewise-system"


def containers(name):
    spec = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_flags_exist_and_the_probes_ask_where_the_process_listens(name):
    (container,) = (one for one in containers(name) if one["command"][0] in PARSERS)
    program, *arguments = container["command"]
    options = PARSERS[program]().parse_args(arguments)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listening = int(options.listen.rpartition(":")[2])
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        asked = container[probe]["httpGet"]
        assert (asked["path"], ports[asked["port"]]) == (path, listening)


def test_services_of_the_controller_select_its_pods_and_ask_for_ports_that_are_documented():
    labels = DEPLOYMENTS["slicewise-controller"]["spec"]["template"]["metadata"]["labels"]
    for file in ("controller.yaml", "external-metrics.yaml", "keda-scaler.yaml"):
        (service,) = (one for one in load(MANIFESTS / file) if one["kind"] == "Service")
        selector = dict(service["spec"]["selector"])
        # The leader puts that on itself (--pod-name).
        selector.pop("slicewise.io/leader", None)
        assert selector.items() <= labels.items(), file
    assert any("--pod-name" in word for word in containers("slicewise-controller")[0]["command"])


def shipped_configuration():
    (config_map,) = (one for one in load(MANIFESTS / "scheduler.yaml") if one["kind"] == "ConfigMap")
    return yaml.safe_load(config_map["data"]["config.yaml"])


def test_both_scheduler_configurations_are_the_same_profile():
    plain = yaml.safe_load((MANIFESTS / "scheduler-config.yaml").read_text(encoding="utf-8"))
    beside = shipped_configuration()
    assert beside.pop("leaderElection")["resourceName"] == "slicewise-kube-scheduler"
    assert beside["profiles"][0].pop("schedulerName") == "slicewise"
    assert plain["profiles"][0].pop("schedulerName") == "default-scheduler"
    assert beside == plain
    port = containers("slicewise-scheduler")[0]["ports"][0]["containerPort"]
    assert beside["extenders"][0]["urlPrefix"] == f"http://127.0.0.1:{port}/scheduler"


@pytest.fixture
def applied(control_plane):
    """The shipped manifests on the API server; what they run is not started by anybody."""
    found = [
        document
        for file in ("policy.yaml", "scheduler.yaml", "controller.yaml")
        for document in control_plane.apply(MANIFESTS / file)
    ]
    yield control_plane
    # All of it, its rights above all: other tests look at what the accounts may do without it.
    with control_plane.connect() as connection:
        for document in found:
            path = object_path(connection, document, SYSTEM, {})
            control_plane.request("DELETE", f"{path}?propagationPolicy=Background", accepted=SUCCESS | {404})
    pods = f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io/name%3Dslicewise"
    # The node of some is gone already: nobody would confirm that they ended.
    now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}

    def gone():
        control_plane.request("DELETE", pods, now)
        return not control_plane.request("GET", pods)["items"]

    until(gone, 60, "the pods of the Deployments to be gone")


def ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10.0) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def test_the_scheduler_of_the_manifest_binds_with_the_rights_of_the_manifest(applied, namespace, tmp_path):
    cluster = applied
    account = cluster.kubeconfig_for("slicewise-scheduler")
    listening, secure = cluster.claim_port(), cluster.claim_port()
    configuration = shipped_configuration()
    configuration["clientConnection"] = {"kubeconfig": str(account)}
    configuration["extenders"][0]["urlPrefix"] = f"http://127.0.0.1:{listening}/scheduler"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(configuration))
    names = create_nodes(
        cluster,
        [
            node_manifest("shipped-plain"),
            node_manifest(
                "shipped-gpu",
                labels={"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.count": "8"},
                allocatable={"nvidia.com/gpu": "8"},
            ),
        ],
    )
    started = ("shipped-extender", "shipped-scheduler")
    try:
        extender = [sys.executable, "-m", "scheduler", f"--listen=127.0.0.1:{listening}"]
        cluster.processes.start(started[0], [*extender, "--kubeconfig", str(account)])
        until(lambda: ready(listening), 60, "slicewise-scheduler to be ready")
        binary = binaries.find("kube-scheduler")
        server = cluster.server_certificate("shipped-scheduler", ["127.0.0.1"])
        argv = commands.scheduler(binary, port=secure, config=config, server=server, feature_gates={})
        cluster.processes.start(started[1], argv)
        container = {"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "one"},
            "spec": {
                "schedulerName": "slicewise",
                "terminationGracePeriodSeconds": 0,
                "containers": [container],
            },
        }
        path = f"/api/v1/namespaces/{namespace}/pods"
        cluster.request("POST", path, pod)
        until(
            lambda: cluster.request("GET", f"{path}/one")["spec"].get("nodeName") == "shipped-gpu",
            60,
            "the pod to be bound",
        )
        lease = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/slicewise-kube-scheduler"
        assert cluster.request("GET", lease)["spec"]["holderIdentity"]
        with urllib.request.urlopen(f"http://127.0.0.1:{listening}/metrics", timeout=30.0) as answer:
            page = answer.read().decode()
        asked = re.search(
            r'slicewise_extender_request_duration_seconds_count\{.*verb="filter".*\} (\S+)', page
        )
        assert float(asked[1]) >= 1.0
    finally:
        cluster.processes.stop(started, 10.0)
        delete_nodes(cluster, names)
