"""Slicewise as docs/install.md installs it, on a cluster of its own with a real node: an image of an ordinary
installation, and the manifests as they are but for the image's name, the address of Prometheus and the
processor time they ask for, since a node of two cores holds no five.

Accounts, tokens, the API server's address and certificate come to the pods as in any cluster.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.local import addon_image, images
from deploy.local.binaries import ensure
from deploy.local.conditions import condition
from deploy.local.control_plane import ControlPlane
from deploy.local.node_cgroups import roots
from deploy.local.real_node import RealNode
from deploy.local.rest import SUCCESS
from tests.kubelet.cluster_view import pods, until

MANIFESTS = Path(__file__).parents[2] / "deploy" / "manifests"
SYSTEM = "slicewise-system"
IMAGE = "localhost/slicewise:installed"
_KUBE_SCHEDULER = re.compile(r"\S+/kube-scheduler:v[\d.]+")
_REQUESTED_CPU = re.compile(r"cpu: (\"1\"|500m)")
_LABEL = "app.kubernetes.io/component"


class InstalledAddon:
    """What runs of it, and what it leaves to be seen."""

    def __init__(self, cluster: ControlPlane, node: RealNode, prometheus: str) -> None:
        self.cluster, self.node = cluster, node
        self._prometheus = f"http://{prometheus}"

    def install(self) -> None:
        """Bring the images to the node and apply the manifests."""
        with addon_image.written(IMAGE) as archive:
            self.node.import_image(archive)
            scheduler = (MANIFESTS / "scheduler.yaml").read_text(encoding="utf-8")
            [name] = _KUBE_SCHEDULER.findall(scheduler)
            inside = "/usr/local/bin/kube-scheduler"  # where the published image has it
            binary = ensure(["kube-scheduler"], name.rpartition(":v")[2])["kube-scheduler"]
            with archive.open("w+b") as out:
                images.write(out, name, {inside: binary}, (inside,), path=("/usr/local/bin",))
            self.node.import_image(archive)
        for file in ("rbac.yaml", "policy.yaml", "scheduler.yaml", "controller.yaml"):
            self.apply(file)

    def apply(self, file: str, edit: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        """Apply a shipped manifest as somebody who has put in what is his own, and made his edits."""
        text = (MANIFESTS / file).read_text(encoding="utf-8")
        text = text.replace("slicewise:latest", IMAGE)
        text = text.replace("http://prometheus-operated.monitoring.svc:9090", self._prometheus)
        text = _REQUESTED_CPU.sub("cpu: 50m", text)
        documents = [document for document in yaml.safe_load_all(text) if document]
        for document in documents:
            edit(document)
        self.cluster.apply(documents)

    def pods(self, component: str | None = None) -> list[dict[str, Any]]:
        """The add-on's pods, of one component or of all, without those that are leaving."""
        return [
            one
            for one in pods(self.cluster, SYSTEM)
            if "deletionTimestamp" not in one["metadata"]
            and component in (None, one["metadata"]["labels"].get(_LABEL))
        ]

    def until_ready(self, count: int) -> None:
        """Until so many pods are there and ready by the probes of the manifests."""

        def probe() -> bool:
            found = self.pods()
            return len(found) == count and all(condition(one, "Ready") == "True" for one in found)

        try:
            until(f"{count} pods of the add-on are ready", probe, 120)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.told()}") from None

    def leader(self, lease: str) -> str:
        """The pod that holds a Lease, "" where nobody does."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{lease}"
        found = self.cluster.request("GET", path, accepted=SUCCESS | {404})
        holder = str((found.get("spec") or {}).get("holderIdentity") or "")
        names = [one["metadata"]["name"] for one in pods(self.cluster, SYSTEM)]
        return next((name for name in names if holder.startswith(name)), holder)

    def page(self, pod: Mapping[str, Any], port: int, path: str) -> str:
        """What a pod answers."""
        url = f"http://{pod['status']['podIP']}:{port}{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    def processes(self) -> dict[tuple[str, str], list[Path]]:
        """The processes' folders below /proc, by pod and container."""
        [group, *_] = [one for one in roots(f"slicewise-{self.node.name}") if (one / "cgroup.procs").exists()]
        found: dict[tuple[str, str], list[Path]] = {}
        for one in self.pods():
            for status in statuses(one):
                number = str(status["containerID"]).rpartition("/")[2]
                pids = (group / number / "cgroup.procs").read_text().split()
                found[one["metadata"]["name"], status["name"]] = [Path("/proc", pid) for pid in pids]
        return found

    def logs(self) -> dict[tuple[str, str], list[str]]:
        """The lines of each container, by pod and container; those of pods that are gone not among them."""
        return {
            (one["metadata"]["name"], status["name"]): self.node.pod_log(
                SYSTEM, one["metadata"]["name"], status["name"]
            ).splitlines()
            for one in self.pods()
            for status in statuses(one)
        }

    def told(self) -> str:
        """States, events and the ends of the logs, for the message of a failure."""
        words = [f"{one['metadata']['name']}: {statuses(one)}" for one in self.pods()]
        events = self.cluster.request("GET", f"/api/v1/namespaces/{SYSTEM}/events")["items"]
        words += [f"{event['reason']}: {event.get('message')}" for event in events[-20:]]
        return "\n".join(
            [*words, *(f"{name}: {line}" for name, log in self.logs().items() for line in log[-12:])]
        )


def statuses(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The states of all containers of a pod, sidecars among them."""
    status = pod["status"]
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
