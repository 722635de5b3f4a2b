"""The extender under the real kube-scheduler: pods go where our prices say, a policy edit counts at once, a
restart loses none.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.control_plane import ControlPlane
from deploy.local.kwok_nodes import create_nodes, delete_nodes, node_manifest
from tests.polling import SOON_SECONDS, until

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
SCHEDULER = "slicewise-test"
REGIONS = {"clean": "eu-north-1", "dirty": "eu-central-1"}
POLICY = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "ClusterPolicy",
    "carbon": {
        "provider": "static",
        "static": {"SE": 20.0, "DE": 600.0},
        "regions": {"eu-north-1": "SE", "eu-central-1": "DE"},
    },
    "nodes": [{"name": "cheap", "match": {"price": "cheap"}, "gpuHour": 0.1}],
    # Only carbon counts at first; the edit makes only money count.
    "terms": {"fragmentation": 0.0, "nvlink": 0.0, "carbon": 1.0, "money": 0.0, "locality": 0.0},
}


def post(port: int, path: str, body: object) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=SOON_SECONDS)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=SOON_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def extender(cluster: ControlPlane, namespace: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """slicewise-scheduler against the cluster, its policy in ``namespace``."""
    command = [
        sys.executable,
        "-m",
        "scheduler",
        "--kubeconfig",
        str(cluster.kubeconfig),
        "--listen",
        f"127.0.0.1:{port}",
    ]
    process = subprocess.Popen(
        [*command, "--policy-namespace", namespace, "--log-level", "warning"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: ready(port), 60, "the extender to be ready")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(SOON_SECONDS)
        finally:
            process.kill()
            process.wait()


@contextmanager
def scheduler(cluster: ControlPlane, port: int) -> Iterator[None]:
    """A kube-scheduler of its own with the shipped profile, asking the extender at ``port``."""
    config = yaml.safe_load((ROOT / "deploy" / "manifests" / "scheduler-config.yaml").read_text())
    config["profiles"][0]["schedulerName"] = SCHEDULER
    config["extenders"][0]["urlPrefix"] = f"http://127.0.0.1:{port}/scheduler"
    # Backoff of a pod whose attempt failed: a second at most, so that a lost pod shows as lost and not as
    # slow.
    config["podMaxBackoffSeconds"] = 1
    cluster.start_scheduler(config, SCHEDULER)
    try:
        yield
    finally:
        cluster.stop_scheduler(SCHEDULER)


@contextmanager
def nodes(cluster: ControlPlane, manifests: list[dict[str, Any]]) -> Iterator[list[str]]:
    names = create_nodes(cluster, manifests)
    try:
        yield names
    finally:
        delete_nodes(cluster, names)


def gpu_node(name: str, **labels: str) -> dict[str, Any]:
    product = {
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        "nvidia.com/gpu.count": "8",
        "nvidia.com/gpu.memory": "81920",
    }
    return node_manifest(name, labels={**product, **labels}, allocatable={"nvidia.com/gpu": "8"})


def gpu_pod(name: str, gpus: int = 1) -> dict[str, Any]:
    container = {"name": "c", "image": "model:1", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    spec = {"schedulerName": SCHEDULER, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def create(cluster: ControlPlane, namespace: str, pod: dict[str, Any]) -> None:
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)


def bound(cluster: ControlPlane, namespace: str) -> dict[str, str]:
    pods = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}


def write_policy(cluster: ControlPlane, namespace: str, **changes: Any) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "slicewise-policy", "namespace": namespace},
        "data": {"policy.yaml": yaml.safe_dump({**POLICY, **changes})},
    }
    cluster.apply([document])


def test_pods_go_where_the_prices_say_and_an_edited_policy_counts_for_the_next_pod(
    control_plane: ControlPlane, namespace: str
) -> None:
    cluster = control_plane
    write_policy(cluster, namespace)
    port = cluster.claim_port()
    region = "topology.kubernetes.io/region"
    made = [
        gpu_node("clean-dear", **{region: REGIONS["clean"]}),
        *(gpu_node(f"dirty-cheap-{i}", **{region: REGIONS["dirty"], "price": "cheap"}) for i in range(3)),
        *(gpu_node(f"dirty-dear-{i}", **{region: REGIONS["dirty"]}) for i in range(3)),
    ]
    with nodes(cluster, made) as names, extender(cluster, namespace, port), scheduler(cluster, port):
        for number in range(4):
            create(cluster, namespace, gpu_pod(f"carbon-{number}"))
        until(lambda: len(bound(cluster, namespace)) == 4, 30, "four pods bound")
        assert set(bound(cluster, namespace).values()) == {"clean-dear"}

        def best() -> set[str]:
            pod = gpu_pod("asked")
            pod["metadata"].update(namespace=namespace, uid="asked")
            rows = post(port, "/scheduler/prioritize", {"Pod": pod, "NodeNames": names})
            return {row["Host"] for row in rows if row["Score"] == 10}

        assert best() == {"clean-dear"}
        terms = {"fragmentation": 0.0, "nvlink": 0.0, "carbon": 0.0, "money": 1.0, "locality": 0.0}
        write_policy(cluster, namespace, terms=terms)

        def cheap() -> bool:
            names = best()
            return bool(names) and all(name.startswith("dirty-cheap") for name in names)

        until(cheap, 10, "other scores")
        create(cluster, namespace, gpu_pod("money"))
        where = until(lambda: bound(cluster, namespace).get("money"), 30, "the next pod bound")
        assert where is not None
        assert where.startswith("dirty-cheap")


class Front:
    """What a Service is to kube-scheduler: connections go to any replica that answers."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._turn = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SOON_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._replica()
            if server is None:
                client.close()
                continue
            self._open |= {client, server}
            for source, target in ((client, server), (server, client)):
                thread = threading.Thread(target=self._copy, args=(source, target))
                self._threads.append(thread)
                thread.start()

    def _replica(self) -> socket.socket | None:
        for _ in self._ports:
            self._turn += 1
            with suppress(OSError):
                return socket.create_connection(
                    ("127.0.0.1", self._ports[self._turn % len(self._ports)]), timeout=5
                )
        return None

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            source.settimeout(None)
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)


def test_two_replicas_lose_no_pod_when_one_restarts_in_mid_run(
    control_plane: ControlPlane, namespace: str
) -> None:
    cluster = control_plane
    write_policy(cluster, namespace)
    ports = [cluster.claim_port(), cluster.claim_port()]
    front = Front(ports)
    region = {"topology.kubernetes.io/region": REGIONS["clean"]}
    try:
        with (
            nodes(cluster, [gpu_node(f"replica-{i}", **region) for i in range(20)]),
            extender(cluster, namespace, ports[1]),
            scheduler(cluster, front.port),
        ):
            with extender(cluster, namespace, ports[0]) as first:
                for number in range(60):
                    create(cluster, namespace, gpu_pod(f"pod-{number:03d}"))
                until(lambda: len(bound(cluster, namespace)) >= 10, 60, "the first pods bound")
                first.send_signal(signal.SIGTERM)
                for number in range(60, 100):
                    create(cluster, namespace, gpu_pod(f"pod-{number:03d}"))
                first.wait(SOON_SECONDS)
            with extender(cluster, namespace, ports[0]):
                for number in range(100, 150):
                    create(cluster, namespace, gpu_pod(f"pod-{number:03d}"))
                until(lambda: len(bound(cluster, namespace)) == 150, 90, "every pod bound")
            held: dict[str, int] = {}
            for node in bound(cluster, namespace).values():
                held[node] = held.get(node, 0) + 1
            assert max(held.values()) <= 8
    finally:
        front.close()
