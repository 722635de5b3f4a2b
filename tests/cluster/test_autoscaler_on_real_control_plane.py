"""The autoscaler on a real API server, controllers, scheduler and Prometheus; only kubelets and model servers
are not (``autoscaled``).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from autoscaler import reasons
from autoscaler.signals import Signals
from cluster import event_reasons
from deploy.local.control_plane import ControlPlane
from deploy.local.rest import RequestRefused, plain_get
from tests.cluster.autoscaled import PER_REPLICA, Scene, eventually, workload
from tests.cluster.autoscaled import nodes as nodes
from tests.cluster.autoscaled import scene as scene
from tests.custom_kinds import defined
from tests.polling import SOON_SECONDS, throughout

pytestmark = pytest.mark.cluster

JSON_MERGE = "application/merge-patch+json"


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

    def supplied() -> Signals | None:
        view = scene.view(namespace, "llm")
        told = None if view is None else view.signals
        if told is None or (told.ready, told.in_flight) != (3, 40.0):
            return None
        return told if isinstance(told.cold_start_seconds, float) else None

    seen = eventually("3 replicas to serve 40 requests, their start measured", supplied)
    assert seen is not None
    assert isinstance(seen.cold_start_seconds, float)
    assert seen.cold_start_seconds >= 1.0

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
    series = f'slicewise_autoscaler_signal_available{{kind="Deployment",name="llm",namespace="{namespace}",'
    eventually(
        "the metrics to say so",
        lambda: f'{series}signal="in_flight"}} 0.0' in scene.parts.exposition.render()[0].decode(),
    )


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
                return plain_get(f"http://127.0.0.1:{port}{route}", 10.0)
            except (OSError, RequestRefused):
                return ""

        eventually("to be ready", lambda: answer("/readyz") == "ok\n")

        def wanted() -> list[dict[str, Any]]:
            decisions = json.loads(answer("/decisions") or "[]")
            return [d for d in decisions if d["replicas"]["desired"] == 3]

        decision = eventually("a decision for 3 replicas", wanted)[0]
        assert decision["replicas"] == {"current": 1, "desired": 3, "written": False}
        assert decision["signals"]["inFlight"] == {"value": 48.0}
        assert decision["reasons"][0]["code"] == reasons.IN_FLIGHT_NEEDS_MORE
        eventually("to be healthy", lambda: answer("/healthz") == "ok\n")
        eventually("to lead", lambda: 'slicewise_leader{lease="autoscaler-dry"} 1.0' in answer("/metrics"))
        assert scene.replicas(f"{path}/dry") == 1
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=SOON_SECONDS)
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
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    with defined(control_plane, MODEL_CRD) as kind:
        control_plane.request("POST", roles, MODEL_ROLE)
        yield kind
        control_plane.request("DELETE", f"{roles}/{MODEL_ROLE['metadata']['name']}")


def test_a_custom_resource_is_scaled_once_it_names_its_pods(scene: Scene, namespace: str, model_kind: str):
    group = "serving.example.org/v1"
    path = f"/apis/{group}/namespaces/{namespace}/inferencemodels"
    model = {"apiVersion": group, "kind": model_kind, "metadata": {"name": "big"}, "spec": {"replicas": 1}}
    scene.create(path, model)
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

    eventually(
        "a complaint about the missing selector",
        lambda: any("has no status.selector" in one for one in complaints()),
    )
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
        "odd-server": "got 'vlm', expected auto or one of bentoml, generic",
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
    eventually(
        "its metrics to go",
        lambda: f'namespace="{namespace}"' not in scene.parts.exposition.render()[0].decode(),
    )
