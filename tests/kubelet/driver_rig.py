"""The real driver on a real node over fake cards: started, killed, restarted; what it holds, by whom."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.local.control_plane import ControlPlane
from deploy.local.ports import PortClaims
from deploy.local.real_node import RealNode
from deploy.local.rest import RequestRefused, plain_get
from dra.classes import class_name
from dra.slice_parts import SLICEWISE_DRIVER
from tests.fake_nvml.state import FakeNode
from tests.kubelet.cluster_view import container, pod_spec, until

REPOSITORY = Path(__file__).parents[2]
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
_MOST_INSTANCES = 40  # ids that the fake card may give to one GPU's instances


class DriverRig:
    """One node's driver. ``folder`` holds what a GPU node's /dev and /proc would."""

    def __init__(
        self,
        cluster: ControlPlane,
        node: RealNode,
        fake: FakeNode,
        library: Path,
        folder: Path,
        **environment: str,
    ) -> None:
        self._cluster = cluster
        self._node = node
        self.fake = fake
        self._root = folder
        self._environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **fake.environment(library)}
        self._environment["PYTHONFAULTHANDLER"] = "1"  # a crash in the stand-in for NVML shows where
        self._environment.update(environment)
        self._ports = PortClaims()
        self._pages: dict[str, int] = {}
        make_device_nodes(folder, fake)

    def start(
        self, name: str = "driver", *, pod_uid: str = "", wait: bool = True, more: tuple[str, ...] = ()
    ):
        """Start an instance of the driver under a name; with ``wait``, until it is ready."""
        port = self._pages.setdefault(name, self._ports.claim())
        argv = [
            *(sys.executable, "-m", "node", "serve", f"--node-name={self._node.name}"),
            # The rights of the driver's account and no more.
            f"--kubeconfig={self._cluster.kubeconfig_for('slicewise-node')}",
            f"--kubelet-root={self._node.kubelet_folder}",
            *(f"--cdi-root={self._node.cdi_folder}", f"--driver-root={self._root}"),
            *(f"--proc-root={self._root / 'proc'}", f"--metrics-address=127.0.0.1:{port}"),
            *([f"--pod-uid={pod_uid}"] if pod_uid else []),
            *more,
        ]
        self._node.processes.start(name, argv, self._environment)
        if wait:
            self.wait_ready(name)

    def wait_ready(self, name: str = "driver") -> None:
        """Until the instance says it is ready: sockets are served and the slices are as they should be."""

        def ready() -> bool:
            self._node.processes.check([name])
            try:
                return bool(plain_get(f"http://127.0.0.1:{self._pages[name]}/readyz"))
            except (RequestRefused, OSError):
                return False

        until(f"{name} is ready", ready, 30)

    def page(self, name: str = "driver") -> str:
        """The instance's metrics."""
        return plain_get(f"http://127.0.0.1:{self._pages[name]}/metrics")

    def registered(self, name: str = "driver") -> bool:
        """Whether the kubelet has told the instance that it is registered; not before it serves its page."""
        self._node.processes.check([name])
        try:
            page = self.page(name)
        except (RequestRefused, OSError):
            return False
        return re.search(r"^slicewise_node_registered(\{[^}]*\})? 1", page, re.M) is not None

    def stop(self, name: str = "driver", grace_seconds: float = 10.0) -> None:
        """End an instance; 0 seconds of grace is kill -9."""
        self._node.processes.stop([name], grace_seconds)

    def pid(self, name: str = "driver") -> int:
        """The process id of an instance."""
        return self._node.processes.pids[name]

    def close(self) -> None:
        """End every instance and give the ports back."""
        self._node.processes.stop(list(self._pages), 10.0)
        self._ports.release()

    def slices(self) -> list[dict[str, Any]]:
        """The ResourceSlices that the driver has published, by name."""
        selector = f"?fieldSelector=spec.driver%3D{SLICEWISE_DRIVER},spec.nodeName%3D{self._node.name}"
        items: list[dict[str, Any]] = self._cluster.request("GET", SLICES + selector)["items"]
        return sorted(items, key=lambda item: item["metadata"]["name"])

    def placements(self) -> dict[tuple[int, int], str]:
        """Profiles of the instances that exist, by GPU and start."""
        return {(one.gpu, one.start): one.profile for one in self.fake.instances()}

    def documents(self) -> list[str]:
        """Names of the driver's CDI files."""
        return sorted(path.name for path in self._node.cdi_folder.glob("*slicewise*"))


def make_device_nodes(folder: Path, fake: FakeNode) -> None:
    """What NVIDIA's kernel driver would show: device nodes (all are /dev/null) and capability files."""
    devices = folder / "dev"
    (devices / "nvidia-caps").mkdir(parents=True)
    gpus = int(fake.values()["gpus"])
    names = ["nvidiactl", "nvidia-uvm", *(f"nvidia{gpu}" for gpu in range(gpus))]
    number = 0
    for gpu in range(gpus):
        for instance in range(_MOST_INSTANCES):
            for part in (f"gi{instance}/access", f"gi{instance}/ci0/access"):
                number += 1
                path = folder / "proc" / "driver" / "nvidia" / "capabilities" / f"gpu{gpu}" / "mig" / part
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"DeviceFileMinor: {number}\nDeviceFileMode: 292\n")
                names.append(f"nvidia-caps/nvidia-cap{number}")
    for name in names:
        os.mknod(devices / name, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def devices_of(inside: Mapping[str, Any]) -> dict[str, str]:
    """What a container was told of its devices: UUID by device name in capitals."""
    prefix = "SLICEWISE_DEVICE_"
    return {
        name.removeprefix(prefix): value
        for name, value in inside["environment"].items()
        if name.startswith(prefix)
    }


def asks(spelling: str, node: str, profile: str = "1g.10gb") -> dict[str, Any]:
    """A pod's specification that asks for one instance in one of the three spellings."""
    if spelling == "claim":
        claims = [{"name": "gpu", "resourceClaimTemplateName": "small"}]
        return pod_spec(node, container(resources={"claims": [{"name": "gpu"}]}), resourceClaims=claims)
    names = {
        "class": f"deviceclass.resource.kubernetes.io/{class_name(profile)}",
        "resource": f"nvidia.com/mig-{profile}",
    }
    return pod_spec(node, container(resources={"limits": {names[spelling]: "1"}}))


def template(profile: str = "1g.10gb") -> dict[str, Any]:
    """The claim template that a pod with the spelling "claim" uses."""
    request = {"name": "gpu", "exactly": {"deviceClassName": class_name(profile)}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "small"},
        "spec": {"spec": {"devices": {"requests": [request]}}},
    }
