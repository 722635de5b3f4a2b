"""The autoscaler on a real API server, controllers, scheduler and Prometheus; only kubelets and model servers
are not.

The model servers are one HTTP page that lists vLLM's metrics of every Ready pod, with the labels that a
PodMonitor would give; the load of a workload is shared among its Ready pods. The controller runs with its own
account's rights.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import yaml

from autoscaler import reasons
from autoscaler.compose import Options, Parts, build
from autoscaler.controller import View
from cluster import event_reasons
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, node_manifest
from deploy.local.rest import RequestRefused, plain_get
from tests.polling import throughout, until

pytestmark = pytest.mark.cluster

PROMETHEUS = "prometheus-of-autoscaler"
PER_REPLICA = 16
JSON_MERGE = "application/merge-patch+json"
_numbers = itertools.count(1)


class ModelServers:
    """vLLM's page for all pods of all workloads whose load was set."""

    def __init__(self, cluster: ControlPlane) -> None:
        self._loads: dict[tuple[str, str], float] = {}
        servers = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = servers.page(cluster).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
                pass

        self._http = HTTPServer(("127.0.0.1", 0), Page)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def load(self, namespace: str, app: str, in_flight: float) -> None:
        self._loads[namespace, app] = in_flight

    def page(self, cluster: ControlPlane) -> str:
        lines: list[str] = []
        with cluster.connect() as connection:
            for (namespace, app), in_flight in list(self._loads.items()):
                path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}"
                pods = connection.request("GET", path)["items"]
                ready = [pod["metadata"]["name"] for pod in pods if is_ready(pod)]
                for pod in ready:
                    labels = f'namespace="{namespace}",pod="{pod}",model_name="m",engine="0"'
                    lines.append(f"vllm:num_requests_running{{{labels}}} {in_flight / len(ready)}")
                    lines.append(f"vllm:num_requests_waiting{{{labels}}} 0")
                    lines.append(f'vllm:request_success_total{{{labels},finished_reason="stop"}} 100')
        return "\n".join(sorted(lines)) + "\n"

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    leaving = "deletionTimestamp" in pod["metadata"]
    return not leaving and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@dataclass
class Scene:
    """A cluster under the autoscaler."""

    cluster: ControlPlane
    servers: ModelServers
    parts: Parts
    prometheus: str
    prometheus_url: str
    made: list[str] = field(default_factory=list)

    def create(self, path: str, document: dict[str, Any]) -> None:
        self.cluster.request("POST", path, document)

    def policy(self, namespace: str, name: str, target: dict[str, str], **changes: Any) -> str:
        """Write a policy's ConfigMap and return its path."""
        values = {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "AutoscalingPolicy",
            "target": target,
            "signals": {"directScrape": False},  # the pods have no real address
            "minReplicas": 1,
            "maxReplicas": 8,
            "inFlight": {"perReplica": PER_REPLICA},
            "scaleDown": {"stabilisationSeconds": 2},
            "coldStartSeconds": 3,
            "periodSeconds": 0.5,
            **changes,
        }
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        labels = {"slicewise.io/policy": "autoscaling"}
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": labels},
            "data": {"policy.yaml": yaml.safe_dump(values)},
        }
        self.create(path, document)
        self.made.append(f"{path}/{name}")
        return f"{path}/{name}"

    def replicas(self, path: str) -> int:
        return int(self.cluster.request("GET", path)["spec"]["replicas"])

    def view(self, namespace: str, name: str) -> View | None:
        views = self.parts.controller.views
        return next((v for v in views if (v.target.namespace, v.target.name) == (namespace, name)), None)

    def events(self, namespace: str, kind: str, name: str) -> list[dict[str, Any]]:
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        found = self.cluster.request("GET", path)["items"]
        return [e for e in found if (e["regarding"]["kind"], e["regarding"]["name"]) == (kind, name)]


def eventually(what: str, condition: Callable[[], object], seconds: float = 30.0) -> None:
    until(condition, seconds, what, every_seconds=0.1)


@pytest.fixture(scope="module")
def nodes(control_plane: ControlPlane) -> Iterator[list[str]]:
    names = create_nodes(control_plane, [node_manifest(f"autoscaled-{i}") for i in range(2)])
    yield names
    for name in names:
        control_plane.request("DELETE", f"/api/v1/nodes/{name}")


@pytest.fixture
def scene(control_plane: ControlPlane, nodes: list[str]) -> Iterator[Scene]:
    servers = ModelServers(control_plane)
    number = next(_numbers)
    scrape = {
        "job_name": "vllm",
        "honor_labels": True,
        "metrics_path": "/metrics",
        "static_configs": [{"targets": [f"127.0.0.1:{servers.port}"]}],
    }
    prometheus = f"{PROMETHEUS}-{number}"
    url = control_plane.start_prometheus([scrape], name=prometheus)
    parts = build(
        Options(
            prometheus_url=url,
            kubeconfig=str(control_plane.kubeconfig_for("slicewise-controller")),
            lease=f"autoscaler-{number}",
            identity="a-test",
            prometheus_timeout_seconds=2.0,
        )
    )
    parts.start()
    scene = Scene(control_plane, servers, parts, prometheus, url)
    try:
        yield scene
    finally:
        for path in scene.made:
            control_plane.request("DELETE", path, accepted=frozenset({200, 202, 404}))
        parts.stop()
        control_plane.processes.stop([prometheus], 2.0)
        servers.stop()


def workload(kind: str, app: str, start_up_seconds: int) -> dict[str, Any]:
    labels = {"app": app}
    template = {
        "metadata": {
            "labels": labels,
            "annotations": {"slicewise.io/demo-startup-seconds": str(start_up_seconds)},
        },
        "spec": {"containers": [{"name": "server", "image": "example.org/vllm:1"}]},
    }
    spec: dict[str, Any] = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    if kind == "StatefulSet":
        spec |= {"serviceName": app, "podManagementPolicy": "Parallel"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app}, "spec": spec}


def test_a_deployment_follows_in_flight_and_holds_when_prometheus_is_gone(scene: Scene, namespace: str):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    scene.create(path, workload("Deployment", "llm", start_up_seconds=2))
    path = f"{path}/llm"
    scene.servers.load(namespace, "llm", 10.0)
    scene.policy(namespace, "llm-policy", {"kind": "Deployment", "name": "llm"})
    eventually("a first decision", lambda: scene.view(namespace, "llm"))

    scene.servers.load(namespace, "llm", 2.5 * PER_REPLICA)
    eventually("3 replicas", lambda: scene.replicas(path) == 3)
    throughout(lambda: scene.replicas(path) == 3, 5.0, "3 replicas while they start and after")
    view = scene.view(namespace, "llm")
    assert view is not None
    assert (view.signals.ready, view.signals.in_flight) == (3, 40.0)
    assert isinstance(view.signals.cold_start_seconds, float)
    assert 1.0 <= view.signals.cold_start_seconds <= 10.0

    def scaled_up() -> list[str]:
        return [
            e["note"]
            for e in scene.events(namespace, "Deployment", "llm")
            if e["reason"] == event_reasons.SCALED_UP
        ]

    eventually("an Event on the Deployment", scaled_up)
    assert scaled_up()[0].startswith("1 -> 3 replicas: 40 requests in flight at 16 a replica need 3")

    scene.servers.load(namespace, "llm", 0.8 * PER_REPLICA)
    eventually("1 replica after the window", lambda: scene.replicas(path) == 1)
    scene.servers.load(namespace, "llm", 1.8 * PER_REPLICA)
    eventually("2 replicas", lambda: scene.replicas(path) == 2)

    scene.cluster.processes.stop([scene.prometheus], 2.0)

    def blind() -> bool:
        newest = scene.view(namespace, "llm")
        return newest is not None and newest.decision.reasons[0].code == reasons.METRICS_MISSING

    eventually("the outage to be seen", blind)
    throughout(lambda: scene.replicas(path) == 2, 4.0, "2 replicas without numbers")
    eventually(
        "an Event about the outage",
        lambda: any(
            e["reason"] == event_reasons.SCALING_HELD for e in scene.events(namespace, "Deployment", "llm")
        ),
    )
    page = scene.parts.exposition.render()[0].decode()
    series = f'slicewise_autoscaler_signal_available{{kind="Deployment",name="llm",namespace="{namespace}",'
    assert f'{series}signal="in_flight"}} 0.0' in page


def test_a_stateful_set_is_scaled_too(scene: Scene, namespace: str):
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    scene.create(path, workload("StatefulSet", "shards", start_up_seconds=0))
    scene.servers.load(namespace, "shards", 4 * PER_REPLICA)
    scene.policy(namespace, "shards-policy", {"kind": "StatefulSet", "name": "shards"})
    eventually("4 replicas", lambda: scene.replicas(f"{path}/shards") == 4)


def test_the_process_in_dry_run_explains_itself_changes_nothing_and_ends_on_sigterm(
    scene: Scene, namespace: str
):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    scene.create(path, workload("Deployment", "dry", start_up_seconds=0))
    scene.parts.stop()
    scene.servers.load(namespace, "dry", 3 * PER_REPLICA)
    scene.policy(namespace, "dry-policy", {"kind": "Deployment", "name": "dry"})
    port = scene.cluster.claim_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "autoscaler", "--dry-run", "--lease", "autoscaler-dry"),
            *("--prometheus-url", scene.prometheus_url, "--listen", f"127.0.0.1:{port}"),
            *("--kubeconfig", str(scene.cluster.kubeconfig_for("slicewise-controller"))),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def answer(route: str) -> str:
            try:
                return plain_get(f"http://127.0.0.1:{port}{route}", 2.0)
            except (OSError, RequestRefused):
                return ""

        eventually("to be ready", lambda: answer("/readyz") == "ok\n")

        def wanted() -> list[dict[str, Any]]:
            decisions = json.loads(answer("/decisions") or "[]")
            return [d for d in decisions if d["replicas"]["desired"] == 3]

        eventually("a decision for 3 replicas", wanted)
        decision = wanted()[0]
        assert decision["replicas"] == {"current": 1, "desired": 3, "written": False}
        assert decision["signals"]["inFlight"] == {"value": 48.0}
        assert decision["reasons"][0]["code"] == reasons.IN_FLIGHT_NEEDS_MORE
        assert answer("/healthz") == "ok\n"
        assert 'slicewise_leader{lease="autoscaler-dry"} 1.0' in answer("/metrics")
        assert scene.replicas(f"{path}/dry") == 1
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30.0)
        assert process.returncode == 0, log
        assert "would go 1 -> 3" in log
        assert "Traceback" not in log
        lease = "/apis/coordination.k8s.io/v1/namespaces/slicewise-system/leases/autoscaler-dry"
        assert scene.cluster.request("GET", lease)["spec"]["holderIdentity"] == ""
    finally:
        process.kill()
        process.wait()


MODEL_CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "inferencemodels.serving.example.org"},
    "spec": {
        "group": "serving.example.org",
        "scope": "Namespaced",
        "names": {"plural": "inferencemodels", "singular": "inferencemodel", "kind": "InferenceModel"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
                            "status": {
                                "type": "object",
                                "properties": {
                                    "replicas": {"type": "integer"},
                                    "selector": {"type": "string"},
                                },
                            },
                        },
                    }
                },
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
            }
        ],
    },
}

MODEL_ROLE: dict[str, Any] = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {
        "name": "scale-inference-models",
        "labels": {"slicewise.io/aggregate-to-scale-targets": "true"},
    },
    "rules": [
        {
            "apiGroups": ["serving.example.org"],
            "resources": ["inferencemodels/scale"],
            "verbs": ["get", "update", "patch"],
        }
    ],
}


@pytest.fixture
def model_kind(control_plane: ControlPlane) -> Iterator[str]:
    """A custom kind with a scale subresource, and the right to scale it."""
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    control_plane.request("POST", crds, MODEL_CRD)
    control_plane.request("POST", roles, MODEL_ROLE)
    crd = f"{crds}/{MODEL_CRD['metadata']['name']}"

    def established() -> bool:
        conditions = control_plane.request("GET", crd).get("status", {}).get("conditions", ())
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    eventually("the custom kind to be served", established)
    yield "InferenceModel"
    control_plane.request("DELETE", f"{roles}/{MODEL_ROLE['metadata']['name']}")
    control_plane.request("DELETE", crd)


def test_a_custom_resource_is_scaled_once_it_names_its_pods(scene: Scene, namespace: str, model_kind: str):
    group = "serving.example.org/v1"
    path = f"/apis/{group}/namespaces/{namespace}/inferencemodels"
    model = {"apiVersion": group, "kind": model_kind, "metadata": {"name": "big"}, "spec": {"replicas": 1}}
    eventually(
        "the custom kind to accept objects",
        lambda: (
            scene.cluster.request("POST", path, model, accepted=frozenset({201, 404, 409}))["kind"]
            == model_kind
        ),
    )
    pod = workload("Deployment", "big", 0)["spec"]["template"]
    pod["metadata"]["name"] = "big-0"
    scene.create(f"/api/v1/namespaces/{namespace}/pods", {"apiVersion": "v1", "kind": "Pod", **pod})
    scene.servers.load(namespace, "big", 2 * PER_REPLICA)
    target = {"apiVersion": group, "kind": model_kind, "name": "big"}
    scene.policy(namespace, "big-policy", target)

    def complaints() -> list[str]:
        return [
            e["note"] for e in scene.events(namespace, "ConfigMap", "big-policy") if e["type"] == "Warning"
        ]

    eventually("a complaint about the missing selector", complaints)
    assert "has no status.selector" in complaints()[0]
    status = {"status": {"replicas": 1, "selector": "app=big"}}
    scene.cluster.request("PATCH", f"{path}/big/status", status, JSON_MERGE)
    eventually("2 replicas", lambda: scene.replicas(f"{path}/big") == 2)


def test_a_bad_policy_leaves_its_neighbours_alone_and_says_what_is_wrong(scene: Scene, namespace: str):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    scene.create(path, workload("Deployment", "fine", start_up_seconds=0))
    scene.servers.load(namespace, "fine", 2 * PER_REPLICA)
    scene.policy(namespace, "absent", {"kind": "Deployment", "name": "nowhere"})
    scene.policy(namespace, "odd-kind", {"kind": "DeploymentX", "name": "fine"})
    scene.policy(namespace, "no-scale", {"kind": "DaemonSet", "name": "fine"})
    scene.policy(namespace, "odd-server", {"kind": "StatefulSet", "name": "fine"}, server="vlm")
    scene.policy(namespace, "good", {"kind": "Deployment", "name": "fine"})
    eventually("2 replicas", lambda: scene.replicas(f"{path}/fine") == 2)
    expected = {
        "absent": "does not exist",
        "odd-kind": "got 'DeploymentX', expected one of apps/v1",
        "no-scale": "DaemonSet of apps/v1 has no scale subresource",
        "odd-server": "got 'vlm', expected one of bentoml, generic",
    }

    def unsaid() -> list[str]:
        return [
            name
            for name, words in expected.items()
            if not any(words in e["note"] for e in scene.events(namespace, "ConfigMap", name))
        ]

    eventually("an Event on each bad ConfigMap", lambda: not unsaid())


def test_a_deleted_policy_leaves_its_target_as_it_is(scene: Scene, namespace: str):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    scene.create(path, workload("Deployment", "free", start_up_seconds=0))
    scene.servers.load(namespace, "free", 2 * PER_REPLICA)
    policy = scene.policy(namespace, "free-policy", {"kind": "Deployment", "name": "free"})
    eventually("2 replicas", lambda: scene.replicas(f"{path}/free") == 2)
    scene.cluster.request("DELETE", policy)
    eventually("the workload to be forgotten", lambda: scene.view(namespace, "free") is None)
    scene.servers.load(namespace, "free", 6 * PER_REPLICA)
    throughout(lambda: scene.replicas(f"{path}/free") == 2, 2.0, "2 replicas without a policy")
    assert f'namespace="{namespace}"' not in scene.parts.exposition.render()[0].decode()
