"""A real control plane under the autoscaler: what the tests of replicas on it stand on.

The model servers are one HTTP page that lists vLLM's metrics of every Ready pod, with the labels that a
PodMonitor would give; the load of a workload is shared among its Ready pods. The controller runs with its own
account's rights.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
import yaml

from autoscaler.compose import Options, Parts, build
from autoscaler.view import View
from deploy.local.conditions import condition
from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, node_manifest
from tests.loopback_pages import text_page
from tests.polling import until

PER_REPLICA = 16
_numbers = itertools.count(1)
T = TypeVar("T")


class ModelServers:
    """vLLM's page for all pods of all workloads whose load was set."""

    def __init__(self, cluster: ControlPlane) -> None:
        self._loads: dict[tuple[str, str], float] = {}
        self._served = ExitStack()
        self.port = self._served.enter_context(text_page(lambda: self.page(cluster)))

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

    @property
    def scrape(self) -> dict[str, Any]:
        """How Prometheus asks them."""
        targets = [f"127.0.0.1:{self.port}"]
        return {"job_name": "vllm", "honor_labels": True, "static_configs": [{"targets": targets}]}

    def stop(self) -> None:
        self._served.close()


def is_ready(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready") == "True"


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


def eventually(what: str, condition: Callable[[], T], seconds: float = 30.0) -> T:
    return until(condition, seconds, what, every_seconds=0.1)


@contextmanager
def autoscaled(cluster: ControlPlane, name: str) -> Iterator[Scene]:
    """Model servers, the Prometheus that scrapes them, and the controller that asks it; ``name``: whose."""
    servers = ModelServers(cluster)
    number = next(_numbers)
    prometheus = f"prometheus-of-{name}-{number}"
    url = cluster.start_prometheus([servers.scrape], name=prometheus)
    parts = build(
        Options(
            prometheus_url=url,
            kubeconfig=str(cluster.kubeconfig_for("slicewise-controller")),
            lease=f"{name}-{number}",
            identity="a-test",
            prometheus_timeout_seconds=5.0,
        )
    )
    parts.start()
    scene = Scene(cluster, servers, parts, prometheus, url)
    try:
        yield scene
    finally:
        for path in scene.made:
            cluster.request("DELETE", path, accepted=frozenset({200, 202, 404}))
        parts.stop()
        cluster.processes.stop([prometheus], 2.0)
        servers.stop()


@pytest.fixture(scope="module")
def nodes(control_plane: ControlPlane) -> Iterator[list[str]]:
    names = create_nodes(control_plane, [node_manifest(f"autoscaled-{i}") for i in range(2)])
    yield names
    for name in names:
        control_plane.request("DELETE", f"/api/v1/nodes/{name}")


@pytest.fixture
def scene(control_plane: ControlPlane, nodes: list[str]) -> Iterator[Scene]:
    with autoscaled(control_plane, "autoscaler") as scene:
        yield scene


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
