"""What the trial stands on: a cluster with a real node, Prometheus that finds pods by their annotations, and
slicewise-controller as a process with its own account's rights.

Prometheus discovers the pods of the namespace itself (`kubernetes_sd_configs`) and scrapes those with
`prometheus.io/scrape: "true"`. Everything ends with the cluster's processes, however this process ends.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import Pod
from deploy.local import machine_python
from deploy.local.build import Progress
from deploy.local.control_plane import ControlPlane
from deploy.local.model_servers import ensure
from deploy.local.pod_scrape import pods_by_annotation
from deploy.local.processes import ServerFailed
from deploy.local.real_node import RealNode
from deploy.local.rest import SUCCESS
from deploy.model_servers import manifests
from deploy.model_servers.servers import ModelServer
from deploy.model_servers.watching import PodWatch

START_SECONDS = 360.0
SCRAPE_INTERVAL = "2s"
_READY_SECONDS = 180.0
_LEAVE_SECONDS = 180.0
_ANSWER_SECONDS = 30.0
_POLL_SECONDS = 0.1
_CONTROLLER = "slicewise-controller"
T = TypeVar("T")


class Rig:
    """A context manager. ``cluster`` and ``node`` run already, and go on after it."""

    def __init__(
        self, cluster: ControlPlane, node: RealNode, namespace: str, progress: Progress = lambda _: None
    ) -> None:
        self.cluster, self.node, self.namespace = cluster, node, namespace
        self.progress = progress
        self.clock = time.monotonic
        self.pods = PodWatch(self.clock)
        self._names = (f"prometheus-{namespace}", f"{_CONTROLLER}-{namespace}")
        self._deployed: list[ModelServer] = []
        self._stack = ExitStack()

    def __enter__(self) -> Rig:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self.node.import_image(machine_python.image(manifests.IMAGE))
        api = Api.connect(str(self.cluster.kubeconfig))
        self._stack.callback(api.close)
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        reflector: Reflector[Pod] = Reflector(api, path, Pod, self.pods)
        reflector.start()
        self._stack.callback(reflector.stop)
        self._stack.callback(self.cluster.processes.stop, self._names, 10.0)
        prometheus, controller = self._names
        scrape = pods_by_annotation(self.cluster.kubeconfig, [self.namespace])
        self.prometheus = self.cluster.start_prometheus([scrape], SCRAPE_INTERVAL, name=prometheus)
        port = self.cluster.claim_port()
        self.controller = f"http://127.0.0.1:{port}"
        kubeconfig = self.cluster.kubeconfig_for(_CONTROLLER)
        argv = [
            *(sys.executable, "-m", "autoscaler", f"--kubeconfig={kubeconfig}", f"--lease={controller}"),
            *(f"--listen=127.0.0.1:{port}", f"--prometheus-url={self.prometheus}"),
        ]
        self.cluster.processes.start(controller, argv)
        self.until(f"{controller} is ready", lambda: _answers(f"{self.controller}/readyz"), _READY_SECONDS)

    def deploy(self, server: ModelServer) -> None:
        """Make the server's objects; its environment is installed before where it is not there."""
        python = ensure(server.package, self.progress)
        self._deployed.append(server)
        self._stack.callback(self.remove, server)
        documents = [
            manifests.model(server, self.namespace),
            manifests.deployment(server, self.namespace, self.node.name, python),
            manifests.policy(server, self.namespace),
        ]
        self.cluster.apply(documents, self.namespace)

    def remove(self, server: ModelServer) -> None:
        """Delete the server's objects and wait until no pod of it is left."""
        if server not in self._deployed:
            return
        self._deployed.remove(server)
        for path in (
            f"/api/v1/namespaces/{self.namespace}/configmaps/{server.name}-policy",
            f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{server.name}",
        ):
            self.cluster.request("DELETE", path, accepted=SUCCESS | {404})
        gone = lambda: all(life.gone_at is not None for life in self.pods.lives(server.name))  # noqa: E731
        self.until(f"the pods of {server.name} are gone", gone, _LEAVE_SECONDS)

    def decision(self, server: ModelServer) -> dict[str, Any] | None:
        """The controller's newest decision about the server's Deployment."""
        with urllib.request.urlopen(f"{self.controller}/decisions", timeout=_ANSWER_SECONDS) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        mine = (self.namespace, server.name)
        return next((d for d in found if (d["target"]["namespace"], d["target"]["name"]) == mine), None)

    def wanted(self, server: ModelServer) -> int:
        """``spec.replicas`` of the server's Deployment."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{server.name}/scale"
        return int(self.cluster.request("GET", path)["spec"].get("replicas", 0))

    def until(self, what: str, probe: Callable[[], T], seconds: float) -> T:
        """The probe's first true answer. Raises ServerFailed with ``what``, the pods' states and logs."""
        deadline = time.monotonic() + seconds
        while not (answer := probe()):
            if time.monotonic() > deadline:
                raise ServerFailed(f"not within {seconds:.0f} s: {what}; {self._state()}")
            time.sleep(_POLL_SECONDS)
        return answer

    def _state(self) -> str:
        items = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        words = []
        for pod in items:
            name = pod["metadata"]["name"]
            log = self.node.pod_log(self.namespace, name).splitlines()[-8:]
            states = [one.get("state") for one in pod["status"].get("containerStatuses", ())]
            words.append(f"{name} {pod['status'].get('phase')} {states}\n" + "\n".join(log))
        events = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        words += [f"{event['reason']}: {event.get('message')}" for event in events[-10:]]
        return "\n".join(words)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS):
            return True
    except (OSError, urllib.error.URLError):
        return False
