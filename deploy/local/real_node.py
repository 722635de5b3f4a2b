"""A real node on this machine: a kubelet with containerd and runc, joined to a local control plane.

    with RealNode(cluster) as node:
        ...  # pods on node.name run as processes, with addresses and with devices by CDI

The container runtime, the kubelet and all containers live in namespaces of their own (`node_room.py`) that
go with their first process, and that ends with this one, whatever ends it (`supervisor.py`). Needs root
(`node_support.why_not`). Images come from this machine only (WORKLOAD_IMAGE, `import_image`): a pod says
`imagePullPolicy: Never`. Pods reach each other, this machine's addresses other than loopback (`reached` for
a port of that) and, at its Service's address, the API server; there are no other Services and no cluster DNS.
A model server from a virtual environment runs with hostPath mounts of it and of /usr, /lib and /lib64.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from deploy.local import images, node_configuration
from deploy.local.binaries import BinaryUnavailable, ensure
from deploy.local.build import Progress
from deploy.local.certificates import Identity
from deploy.local.commands import SERVICE_ADDRESS
from deploy.local.conditions import condition
from deploy.local.control_plane import ControlPlane
from deploy.local.node_configuration import PAUSE_IMAGE, WORKLOAD_IMAGE, NodeAddresses
from deploy.local.node_support import PROGRAMS, why_not
from deploy.local.ports import LOWEST_PORT, PortClaims
from deploy.local.processes import Processes, ServerFailed
from deploy.local.rest import SUCCESS, RequestRefused, plain_get
from deploy.local.versions import DEFAULT_KUBERNETES, WORKLOAD

_SCRIPTS = Path(__file__).parent
_PYTHON = (sys.executable, "-I", "-S")
# Short, since a Unix socket's path ends at 107 bytes and a plugin's name carries a pod's UID; and outside
# /var and /run, which the room covers.
_PARENT = "/tmp"
_READY_SECONDS = 180.0
_POLL_SECONDS = 0.03
_GRACE_SECONDS = 10.0
_HTTPS = 443


class RealNode:
    """One node. Use it as a context manager, or call `start` and `stop`."""

    def __init__(
        self,
        cluster: ControlPlane,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        feature_gates: Mapping[str, bool] | None = None,
        keep_logs: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Nothing is started yet.

        name: of the Node, unique by default. keep_logs: where the servers' logs are copied at the end.
        """
        self._cluster = cluster
        self.name = name or f"real-{secrets.token_hex(4)}"
        self._labels = dict(labels or {})
        self._gates = dict(feature_gates or {})
        self._keep_logs = keep_logs
        self._progress: Progress = progress or (lambda _: None)
        self._ports = PortClaims()
        self._processes: Processes | None = None
        self._cgroup = f"slicewise-{self.name}"

    def __enter__(self) -> RealNode:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> RealNode:
        """Start everything and wait until the Node is Ready.

        Raises BinaryUnavailable, ServerFailed (with the end of the server's log).
        """
        if self._processes is not None:
            raise ServerFailed(f"the node {self.name!r} has been started already")
        reason = why_not()
        if reason is not None:
            raise ServerFailed(f"no real node can be started here: {reason}")
        self._paths = ensure(PROGRAMS, DEFAULT_KUBERNETES, self._progress)
        self.folder = Path(tempfile.mkdtemp(prefix="sw-", dir=_PARENT))
        port, health = self._ports.claim(), self._ports.claim()
        self._kubelet_ports = (port, health)
        # A port is claimed by one process of this machine at a time, and so is the subnet worked out from it.
        self.addresses = NodeAddresses(port - LOWEST_PORT)
        self._processes = Processes(self.folder / "logs", self.folder)
        try:
            self._make_room()
            self._relay(SERVICE_ADDRESS, _HTTPS, urlsplit(self._cluster.url).port or _HTTPS, self._room_pid)
            self._start_containerd()
            self.start_kubelet()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the node with all its containers and delete its Node object. May be called twice."""
        processes, self._processes = self._processes, None
        if processes is None:
            return
        if self._keep_logs is not None:
            shutil.copytree(self.folder / "logs", self._keep_logs, dirs_exist_ok=True)
        processes.close()
        self._ports.release()
        with contextlib.suppress(RequestRefused, ServerFailed, OSError):  # the cluster may be gone already
            self._cluster.request("DELETE", f"/api/v1/nodes/{self.name}", accepted=SUCCESS | {404})

    # Where the kubelet's plugins meet it.

    @property
    def kubelet_folder(self) -> Path:
        """The kubelet's root folder, elsewhere /var/lib/kubelet."""
        return self.folder / "k"

    @property
    def plugins_registry(self) -> Path:
        """Where a plugin of dynamic resource allocation puts its registration socket."""
        return self.kubelet_folder / "plugins_registry"

    @property
    def plugins(self) -> Path:
        """Where a plugin puts its own socket."""
        return self.kubelet_folder / "plugins"

    @property
    def device_plugins(self) -> Path:
        """Where `kubelet.sock` of the device plugins' registration is."""
        return self.kubelet_folder / "device-plugins"

    @property
    def podresources_socket(self) -> Path:
        """The socket that tells which pod has which device."""
        return self.kubelet_folder / "pod-resources" / "kubelet.sock"

    @property
    def cdi_folder(self) -> Path:
        """Where the container runtime looks for CDI files, elsewhere /var/run/cdi."""
        return self.folder / "cdi"

    @property
    def processes(self) -> Processes:
        """The node's servers, for starting further ones (a driver) that must end with it."""
        if self._processes is None:
            raise ServerFailed(f"the node {self.name!r} is not running")
        return self._processes

    def pid(self, server: str) -> int:
        """The process id of `kubelet` or `containerd` as seen from outside the room."""
        return int((self.folder / f"{server}.pid").read_text())

    # The kubelet, which a test stops and starts.

    def start_kubelet(self, wait: bool = True) -> None:
        """Start the kubelet; with `wait`, until its Node is Ready."""
        configuration = node_configuration.kubelet(
            self.folder,
            runtime_socket=self._runtime_socket,
            addresses=self.addresses,
            ports=self._kubelet_ports,
            authority=self._cluster.certificate_authority,
            server=self._cluster.server_certificate(f"kubelet-{self.name}", [str(self.addresses.machine)]),
            feature_gates=self._gates,
        )
        path = self.folder / "kubelet.yaml"
        path.write_text(json.dumps(configuration, indent=2) + "\n")  # JSON is YAML
        identity = Identity(f"system:node:{self.name}", ("system:nodes",))
        argv = [
            str(self._paths["kubelet"]),
            f"--config={path}",
            f"--kubeconfig={self._cluster.kubeconfig_as(identity, f'node-{self.name}')}",
            f"--root-dir={self.kubelet_folder}",
            f"--cert-dir={self.folder / 'pki'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.addresses.machine}",
            *([f"--node-labels={_pairs(self._labels)}"] if self._labels else []),
        ]
        # In this machine's network: the API server is on its loopback.
        self._launch("kubelet", argv, namespaces="mnt,pid")
        if wait:
            self._wait("kubelet", self._node_is_ready)

    def stop_kubelet(self) -> None:
        """End the kubelet; the containers run on."""
        self.processes.stop(["kubelet"], _GRACE_SECONDS)

    def kubelet_metrics(self, path: str = "/metrics") -> str:
        """The kubelet's metrics in Prometheus' text format."""
        url = f"https://{self.addresses.machine}:{self._kubelet_ports[0]}"
        return self._cluster.read(url, path)

    def reached(self, port: int) -> str:
        """`address:port` at which pods reach a server on this machine's loopback, with this node's life."""
        address = str(self.addresses.machine)
        self._relay(address, port, port)
        return f"{address}:{port}"

    def import_image(self, archive: bytes | Path) -> None:
        """Make an image (`images.archive`, or a file of one) known to the container runtime.

        Raises ServerFailed.
        """
        if isinstance(archive, Path):
            self._import(archive)
            return
        path = self.folder / "image.tar"
        path.write_bytes(archive)
        self._import(path)
        path.unlink()

    def _import(self, path: Path) -> None:
        argv = [str(self._paths["ctr"]), f"--address={self._runtime_socket}", "--namespace=k8s.io"]
        answer = subprocess.run(
            [*argv, "images", "import", str(path)], capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            raise ServerFailed(f"ctr could not import an image: {answer.stderr.strip()}")

    def pod_log(self, namespace: str, pod: str, container: str = "*") -> str:
        """What the containers of a pod, or one of them, have written, in the runtime's log format."""
        files = sorted((self.folder / "pods-logs").glob(f"{namespace}_{pod}_*/{container}/*.log"))
        return "".join(path.read_text(errors="replace") for path in files)

    # Inside.

    @property
    def _runtime_socket(self) -> Path:
        return self.folder / "c" / "c.sock"

    def _make_room(self) -> None:
        ready = self.folder / "room.ready"
        # Where the kubelet, or pods by the paths in their manifests, look for these.
        usual = {"/var/run/cdi": self.cdi_folder}
        for name in ("device-plugins", "plugins", "plugins_registry", "pod-resources"):
            usual[f"/var/lib/kubelet/{name}"] = self.kubelet_folder / name
        for folder in (*usual.values(), self.folder / "c" / "net.d"):
            folder.mkdir(parents=True)
        namespaces = ("--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc")
        argv = [
            *(_tool("unshare"), *namespaces, *_PYTHON, str(_SCRIPTS / "node_room.py")),
            *(str(ready), str(self.folder / "room")),
            *(f"{folder}={place}" for place, folder in usual.items()),
            *(path for path in node_configuration.KERNEL_PARAMETERS if Path(path).exists()),
        ]
        self.processes.start("room", argv)
        self._wait("room", ready.exists)
        shell = self.processes.pids["room"]
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        self._room_pid = int(children[0])
        tidy = [*_PYTHON, str(_SCRIPTS / "node_cgroups.py"), self._cgroup, str(self._room_pid)]
        self.processes.at_end(tidy)
        outer, inner = self.addresses.link_names
        machine, node = f"{self.addresses.machine}/30", f"{self.addresses.node}/30"
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", str(self._room_pid))
        _ip("address", "add", machine, "dev", outer)
        _ip("link", "set", outer, "up")
        for words in (
            ("address", "add", node, "dev", inner),
            ("link", "set", inner, "up"),
            ("link", "set", "lo", "up"),
            ("address", "add", f"{SERVICE_ADDRESS}/32", "dev", "lo"),
            ("route", "add", "default", "via", str(self.addresses.machine)),
        ):
            _run([_tool("nsenter"), f"--net=/proc/{self._room_pid}/ns/net", _tool("ip"), *words])
        _ip("route", "add", str(self.addresses.pods), "via", str(self.addresses.node))

    def _relay(self, address: str, port: int, target: int, room: int | None = None) -> None:
        """Hand connections to an address of this machine, or of the node, on to a port of the loopback."""
        name = f"relay-{port}"
        ready = self.folder / f"{name}.ready"
        words = (address, port, target, ready, *([] if room is None else [room]))
        self.processes.start(name, [*_PYTHON, str(_SCRIPTS / "node_relay.py"), *map(str, words)])
        self._wait(name, ready.exists)

    def _start_containerd(self) -> None:
        folder = self.folder / "c"
        configuration = node_configuration.containerd(
            folder,
            runc=self._runc_wrapper(folder / "runc"),
            cni_plugins=self._paths["bridge"].parent,
            cdi_folder=self.cdi_folder,
            stream_address=self.addresses.node,
        )
        (folder / "config.toml").write_text(configuration)
        network = node_configuration.pod_network(self.addresses, folder)
        (folder / "net.d" / "pods.conflist").write_text(network)
        environment = {**os.environ, "PATH": f"{self._paths['containerd'].parent}:{os.environ['PATH']}"}
        argv = [str(self._paths["containerd"]), f"--config={folder / 'config.toml'}"]
        self._launch("containerd", argv, namespaces="mnt,pid,net", environment=environment)
        self._wait("containerd", self._runtime_answers)
        program = self._paths[WORKLOAD].read_bytes()
        for image, command in ((PAUSE_IMAGE, ("/workload", "pause")), (WORKLOAD_IMAGE, ("/workload",))):
            files = {"/workload": program}
            self.import_image(images.archive(image, files, command))

    def _runc_wrapper(self, path: Path) -> Path:
        python = " ".join((*_PYTHON, str(_SCRIPTS / "node_runc.py"), self._cgroup))
        script = (
            "#!/bin/sh\nset -e\n"
            f'case " $* " in *" create "*) {python} "$@" ;; esac\n'
            f'exec {self._paths["runc"]} "$@"\n'
        )
        path.write_text(script)
        path.chmod(0o755)
        return path

    def _runtime_answers(self) -> bool:
        argv = [str(self._paths["ctr"]), f"--address={self._runtime_socket}", "version"]
        if not self._runtime_socket.exists():
            return False
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def _node_is_ready(self) -> bool:
        plain_get(f"http://127.0.0.1:{self._kubelet_ports[1]}/healthz")
        return condition(self._cluster.request("GET", f"/api/v1/nodes/{self.name}"), "Ready") == "True"

    def _launch(
        self,
        server: str,
        argv: Sequence[str],
        *,
        namespaces: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        enter = [*_PYTHON, str(_SCRIPTS / "node_enter.py"), str(self._room_pid), namespaces]
        self.processes.start(server, [*enter, str(self.folder / f"{server}.pid"), *argv], environment)

    def _wait(self, server: str, probe: Callable[[], bool]) -> None:
        """Until the probe holds. Raises ServerFailed when the server ends or does not come up."""
        deadline = time.monotonic() + _READY_SECONDS
        problem: Exception | None = None
        while True:
            try:
                if probe():
                    return
            except (RequestRefused, OSError, KeyError) as refused:
                problem = refused
            self.processes.check(("room", "containerd", server))
            if time.monotonic() > deadline:
                words = f" ({problem})" if problem is not None else ""
                raise ServerFailed(
                    f"{server} of the node {self.name!r} was not ready within {_READY_SECONDS:.0f} s{words}; "
                    f"{self.processes.log_tail(server)}"
                )
            time.sleep(_POLL_SECONDS)


def _pairs(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items())


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BinaryUnavailable(f"`{name}` is not on PATH")
    return found


def _ip(*words: str) -> None:
    _run([_tool("ip"), *words])


def _run(argv: Sequence[str]) -> None:
    answer = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if answer.returncode != 0:
        raise ServerFailed(f"`{' '.join(argv)}` failed: {answer.stderr.strip()}")
