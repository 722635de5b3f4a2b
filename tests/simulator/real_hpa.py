"""The real HorizontalPodAutoscaler as an oracle: kube-controller-manager follows a series that a test wrote.

The test serves the metrics APIs itself. HPA asks for its metric once a sync, so the n-th request gets the
n-th value, and what the workload's ``spec.replicas`` is at the next request is what HPA made of it. HPA reads
the replicas that *exist* before it asks; so that nobody has to guess what it read, a sync that follows a
change gets no answer (which leaves no trace in HPA) and the value waits for the next one. Sync period and
scale-down window are a fifteenth of what ships.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from deploy.local.conditions import condition
from deploy.local.control_plane import ControlPlane
from deploy.local.rest import SUCCESS, RequestRefused
from tests.loopback_pages import Answering
from tests.polling import SOON_SECONDS, until

SYNC_SECONDS = 1.0
DOWN_WINDOW_SECONDS = 20.0
CONTROLLER_MANAGER = {
    "kube-controller-manager": [
        f"--horizontal-pod-autoscaler-sync-period={SYNC_SECONDS:g}s",
        f"--horizontal-pod-autoscaler-downscale-stabilization={DOWN_WINDOW_SECONDS:g}s",
    ]
}
EXTERNAL, CUSTOM = "external.metrics.k8s.io", "custom.metrics.k8s.io"
VERSIONS = {EXTERNAL: "v1beta1", CUSTOM: "v1beta2"}
SERVICE = "series"


@dataclass(frozen=True)
class Sync:
    """One look of HPA: when it asked and was answered, the replicas it found, and what it was told."""

    asked: float
    at: float
    replicas: int
    value: float | None
    ready: int = 0
    pending: int = 0
    silent: int = 0


@dataclass
class Case:
    """A Deployment with its HPA and the series it is told; ``None`` is an answer of 503.

    ``silent``: the share of running pods that a Pods metric says nothing of.
    """

    name: str
    series: list[float | None]
    target: float
    replicas: int = 1
    least: int = 1
    most: int = 40
    behaviour: dict[str, Any] | None = None
    pods_metric: bool = False
    silent: int = 0
    node: str | None = None
    syncs: list[Sync] = field(default_factory=list)
    told: int = 0
    settled: tuple[int, int] = (-1, -1)  # replicas asked for and existing at the last sync
    finished: threading.Event = field(default_factory=threading.Event)

    def deployment(self) -> dict[str, Any]:
        labels = {"app": self.name}
        spec: dict[str, Any] = {
            "containers": [{"name": "c", "image": "none"}],
            "terminationGracePeriodSeconds": 0,
        }
        if self.node is None:
            spec["schedulerName"] = "nobody"  # pods that wait are all that an External metric needs
        else:
            spec["nodeSelector"] = {"kubernetes.io/hostname": self.node}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }

    def autoscaler(self) -> dict[str, Any]:
        target = {"type": "AverageValue", "averageValue": f"{round(self.target * 1000)}m"}
        metric: dict[str, Any] = {"name": "series", "selector": {"matchLabels": {"app": self.name}}}
        source = (
            {"type": "Pods", "pods": {"metric": metric, "target": target}}
            if self.pods_metric
            else {"type": "External", "external": {"metric": metric, "target": target}}
        )
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": self.name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name},
                "minReplicas": self.least,
                "maxReplicas": self.most,
                "metrics": [source],
                **({} if self.behaviour is None else {"behavior": self.behaviour}),
            },
        }


class SeriesDoor:
    """external.metrics.k8s.io and custom.metrics.k8s.io over the cases of one namespace."""

    def __init__(self, cluster: ControlPlane, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._cases: dict[str, Case] = {}
        self._lock = threading.Lock()
        door = self

        class Page(Answering):
            def respond(self) -> None:
                status, answer = door.answer(self.path)
                self.answer(json.dumps(answer).encode(), "application/json", status)

        pair = cluster.server_certificate("series-door", ["127.0.0.1", f"{SERVICE}.{namespace}.svc"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._http.daemon_threads = True
        self._http.socket = context.wrap_socket(
            self._http.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def run(self, cases: list[Case]) -> None:
        """Create each Deployment and its HPA."""
        for case in cases:
            self._cases[case.name] = case
        with self._cluster.connect() as connection:
            for case in cases:
                path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments"
                connection.request("POST", path, case.deployment())
            for case in cases:
                path = f"/apis/autoscaling/v2/namespaces/{self._namespace}/horizontalpodautoscalers"
                connection.request("POST", path, case.autoscaler())

    def remove(self, cases: list[Case]) -> None:
        """Delete them; returns when none of their pods is left."""
        with self._cluster.connect() as connection:
            for case in cases:
                for group, plural in (
                    ("autoscaling/v2", "horizontalpodautoscalers"),
                    ("apps/v1", "deployments"),
                ):
                    path = f"/apis/{group}/namespaces/{self._namespace}/{plural}/{case.name}"
                    connection.request("DELETE", f"{path}?propagationPolicy=Background")
            pods = f"/api/v1/namespaces/{self._namespace}/pods"
            until(
                lambda: not connection.request("GET", pods)["items"], 30, "the pods of all cases to be gone"
            )

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, target: str) -> tuple[int, dict[str, Any]]:
        url = urlsplit(target)
        parts = url.path.strip("/").split("/")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        group = parts[1] if len(parts) > 1 else ""
        if len(parts) == 3 and group in VERSIONS:
            return 200, {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{group}/{VERSIONS[group]}",
                "resources": [],
            }
        if group not in VERSIONS or len(parts) < 6:
            return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
        selector = query.get("metricLabelSelector" if group == CUSTOM else "labelSelector", "")
        case = self._cases[selector.removeprefix("app=")]
        with self._cluster.connect() as connection:
            sync, reporting = self._look(connection, case)
        if sync is None:
            return 503, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503}
        if group == EXTERNAL:
            items: list[dict[str, Any]] = [{"metricName": "series", "metricLabels": {}, **_value(sync)}]
        else:
            items = [
                {
                    "describedObject": {
                        "kind": "Pod",
                        "namespace": self._namespace,
                        "name": pod,
                        "apiVersion": "/v1",
                    },
                    "metric": {"name": "series", "selector": None},
                    **_value(sync),
                }
                for pod in reporting
            ]
        kind = "MetricValueList" if group == CUSTOM else "ExternalMetricValueList"
        return 200, {"kind": kind, "apiVersion": f"{group}/{VERSIONS[group]}", "metadata": {}, "items": items}

    def _look(self, connection: Any, case: Case) -> tuple[Sync | None, list[str]]:
        """Write down what HPA finds, and take the next value of the series."""
        asked = time.monotonic()
        path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{case.name}"
        found = connection.request("GET", path, accepted=SUCCESS | {404})
        if found["kind"] == "Status":  # removed while HPA was looking
            return None, []
        replicas = int(found["spec"]["replicas"])
        before, case.settled = case.settled, (replicas, int(found["status"].get("replicas", 0)))
        if before != (replicas, replicas):
            with self._lock:
                case.syncs.append(Sync(asked, time.monotonic(), replicas, None))
            return None, []
        running, pending = self._settled(connection, case, replicas) if case.pods_metric else ([], 0)
        with self._lock:
            value = case.series[min(case.told, len(case.series) - 1)]
            case.told += 1
            silent = min(case.silent, max(0, len(running) - 1))
            case.syncs.append(Sync(asked, time.monotonic(), replicas, value, len(running), pending, silent))
            if case.told > len(case.series):
                case.finished.set()
        return (None if value is None else case.syncs[-1]), running[silent:]

    def _settled(self, connection: Any, case: Case, replicas: int) -> tuple[list[str], int]:
        """The running pods and the number of pending ones, once nothing moves."""
        path = f"/api/v1/namespaces/{self._namespace}/pods?labelSelector=app%3D{case.name}"
        before: tuple[list[str], int] | None = None
        deadline = time.monotonic() + SOON_SECONDS
        while time.monotonic() < deadline:
            pods = [
                p
                for p in connection.request("GET", path)["items"]
                if "deletionTimestamp" not in p["metadata"]
            ]
            running = sorted(p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Running")
            waiting = len(pods) - len(running)
            placed = all("nodeName" not in p["spec"] for p in pods if p["status"]["phase"] == "Pending")
            if len(pods) == replicas and placed and before == (running, waiting):
                return running, waiting
            before = running, waiting
            threading.Event().wait(0.1)
        raise AssertionError(f"{case.name}: {len(pods)} pods for {replicas} replicas do not settle")


def _value(sync: Sync) -> dict[str, Any]:
    assert sync.value is not None
    return {"timestamp": "2026-11-21T00:00:00Z", "value": f"{round(sync.value * 1000)}m"}


def register(cluster: ControlPlane, namespace: str, port: int) -> None:
    """Let kube-apiserver forward both metrics APIs to a port of this machine."""
    import base64

    cluster.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": SERVICE, "namespace": namespace},
                "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
            },
            *(
                {
                    "apiVersion": "apiregistration.k8s.io/v1",
                    "kind": "APIService",
                    "metadata": {"name": f"{version}.{group}"},
                    "spec": {
                        "group": group,
                        "version": version,
                        "groupPriorityMinimum": 100,
                        "versionPriority": 100,
                        "caBundle": base64.b64encode(cluster.certificate_authority.read_bytes()).decode(),
                        "service": {"namespace": namespace, "name": SERVICE, "port": port},
                    },
                }
                for group, version in VERSIONS.items()
            ),
        ]
    )


def available(cluster: ControlPlane, group: str) -> bool:
    """Whether kube-apiserver forwards to the API by now."""
    version = VERSIONS[group]
    try:
        found = cluster.request("GET", f"/apis/apiregistration.k8s.io/v1/apiservices/{version}.{group}")
    except RequestRefused:
        return False
    return condition(found, "Available") == "True"
