"""A Kubernetes control plane on this machine: etcd, API server, controllers, scheduler, simulated kubelets.

    with ControlPlane(version="1.36") as cluster:
        subprocess.run(["kubectl", "--kubeconfig", cluster.kubeconfig, "get", "nodes"])

Real programs, real TLS and RBAC, on free loopback ports: any number of clusters run side by side. Its
servers end with this process, whatever ends it (`supervisor.py`). Slicewise's own RBAC is applied at the
start and `kubeconfig_for("slicewise-controller")` gives exactly that component's rights. What is not here: a
network between pods, a kubelet that runs containers, persistence from one start to the next.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from deploy.local import commands
from deploy.local.accounts import Accounts
from deploy.local.apply import Document, apply, load
from deploy.local.binaries import CONTROL_PLANE, ensure
from deploy.local.build import Progress
from deploy.local.certificates import (
    ADMIN,
    CONTROLLER_MANAGER,
    KWOK,
    SCHEDULER,
    Identity,
    KeyPair,
    service_account,
)
from deploy.local.ports import LOOPBACK, PortClaims
from deploy.local.processes import Processes, ServerFailed
from deploy.local.rest import JSON, SUCCESS, Connection, RequestRefused, plain_get
from deploy.local.versions import DEFAULT_KUBERNETES

RBAC_MANIFEST = Path(__file__).parent.parent / "manifests" / "rbac.yaml"
STAGES = Path(__file__).parent / "stages"
SYSTEM_NAMESPACE = "slicewise-system"
DEFAULT_SCHEDULER = "kube-scheduler"
READY_SECONDS = 180.0  # a busy machine takes several times what an idle one does
_READY_POLL_SECONDS = 0.03
_GRACE_SECONDS = 5.0
_PROBE_SECONDS = 15.0


class ControlPlane:
    """One cluster. Use it as a context manager, or call `start` and `stop`."""

    def __init__(
        self,
        version: str = DEFAULT_KUBERNETES,
        directory: Path | str | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        *,
        name: str = "slicewise-local",
        with_scheduler: bool = True,
        feature_gates: Mapping[str, bool] | None = None,
        runtime_config: Mapping[str, str] | None = None,
        extra_arguments: Mapping[str, Sequence[str]] | None = None,
        manifests: Sequence[Path] = (RBAC_MANIFEST,),
        mount_tokens: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Nothing is started yet.

        directory: where certificates, logs and data go; without one, a temporary folder that goes with the
        cluster. scheduler_config: a KubeSchedulerConfiguration without connection and leader election.
        with_scheduler: False to begin without one (`start_scheduler` later). extra_arguments: more flags by
        server name, as in {"kube-controller-manager": ["--horizontal-pod-autoscaler-sync-period=2s"]}.
        manifests: applied when the API server is ready. mount_tokens: into pods, as elsewhere; a pod can
        then be made only after its namespace's service account was. progress: told about builds.
        """
        self.version = version
        self.name = name
        self._given_directory = Path(directory).absolute() if directory is not None else None
        self._scheduler_config: Mapping[str, Any] = scheduler_config or {}
        self._with_scheduler = with_scheduler
        self._gates = dict(feature_gates or {})
        self._runtime_config = dict(runtime_config or {})
        self._extra = {server: list(arguments) for server, arguments in (extra_arguments or {}).items()}
        self._manifests = tuple(manifests)
        self._mount_tokens = mount_tokens
        self._progress: Progress = progress or (lambda _: None)
        self._ports = PortClaims()
        self._lock = threading.RLock()
        self._processes: Processes | None = None
        self._connection: Connection | None = None
        self._scheduler_ports: dict[str, int] = {}

    def __enter__(self) -> ControlPlane:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> ControlPlane:
        """Start everything and wait until it is ready.

        Raises UnknownVersion, BinaryUnavailable, ServerFailed (with the end of the server's log).
        """
        if self._processes is not None:
            raise ServerFailed(f"the cluster {self.name!r} has been started already")
        self._paths = ensure(CONTROL_PLANE, self.version, self._progress)
        temporary = self._given_directory is None
        self.directory = self._given_directory or Path(tempfile.mkdtemp(prefix="slicewise-cluster-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self._api_port = self._ports.claim()
        self._accounts = Accounts(self.directory, f"https://{LOOPBACK}:{self._api_port}", self.name)
        for leftover in ("logs", "etcd"):  # of an earlier run in this folder, whose authority is gone
            shutil.rmtree(self.directory / leftover, ignore_errors=True)
        self._processes = Processes(self.directory / "logs", self.directory if temporary else None)
        try:
            self._start_servers()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all servers: those that use the API server first, it and etcd last. May be called twice."""
        with self._lock:
            processes, self._processes = self._processes, None
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if processes is None:
                return
            last = ("kube-apiserver", "etcd")
            with contextlib.suppress(ServerFailed):  # the supervisor is gone, and the servers with it
                processes.stop([name for name in processes.pids if name not in last], _GRACE_SECONDS)
                for name in last:
                    processes.stop([name], _GRACE_SECONDS)
            processes.close()
            self._ports.release()
            self._scheduler_ports.clear()

    @property
    def url(self) -> str:
        """The API server's https URL."""
        return self._accounts.url

    @property
    def certificate_authority(self) -> Path:
        """The certificate to trust for every https server of this cluster."""
        return self._accounts.authority

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._accounts.kubeconfig(ADMIN, "admin")

    def kubeconfig_for(self, component: str, namespace: str = SYSTEM_NAMESPACE) -> Path:
        """A kubeconfig with exactly the rights of a service account, such as `slicewise-controller`."""
        prefix = "" if namespace == SYSTEM_NAMESPACE else f"{namespace}-"
        return self._accounts.kubeconfig(service_account(namespace, component), f"{prefix}{component}")

    def kubeconfig_as(self, identity: Identity, file_name: str) -> Path:
        """A kubeconfig of any identity, such as a node's; `file_name` is its own within the cluster."""
        return self._accounts.kubeconfig(identity, file_name)

    def server_certificate(self, name: str, addresses: Sequence[str]) -> KeyPair:
        """A certificate, of this cluster's authority, for a further server at these addresses and names."""
        return self._accounts.server_at(name, addresses)

    @property
    def processes(self) -> Processes:
        """The running servers, for starting further ones that must end with the cluster."""
        if self._processes is None:
            raise ServerFailed(f"the cluster {self.name!r} is not running")
        return self._processes

    def connect(self, component: str | None = None, timeout_seconds: float = 30.0) -> Connection:
        """A new connection to the API server, for one thread: as administrator or as a component."""
        identity = ADMIN if component is None else service_account(SYSTEM_NAMESPACE, component)
        return Connection(self._accounts.access(identity, component or "admin"), timeout_seconds)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        accepted: Collection[int] = SUCCESS,
    ) -> Any:
        """One request as administrator; the decoded answer. Raises RequestRefused."""
        with self._lock:
            if self._connection is None:
                self._connection = self.connect()
            return self._connection.request(method, path, body, content_type, accepted)

    def apply(self, source: Path | str | Iterable[Document], namespace: str = "default") -> list[Document]:
        """Server-side apply of a manifest file or of documents. Raises ManifestRefused."""
        documents = load(source) if isinstance(source, str | Path) else source
        with self.connect() as connection:
            return apply(connection, documents, namespace)

    def start_scheduler(self, config: Mapping[str, Any] | None = None, name: str = DEFAULT_SCHEDULER) -> None:
        """Start a kube-scheduler and wait until it is healthy; a second one needs its own name, profile."""
        port = self._ports.claim()
        kubeconfig = self._accounts.kubeconfig(SCHEDULER, "kube-scheduler")
        argv = commands.scheduler(
            self._paths["kube-scheduler"],
            port=port,
            config=self._write_config(name, commands.scheduler_configuration(config or {}, kubeconfig)),
            server=self._accounts.server,
            feature_gates=self._gates,
        )
        self._launch(name, argv, self._https_probe(port, "/healthz"))
        self._scheduler_ports[name] = port

    def stop_scheduler(self, name: str = DEFAULT_SCHEDULER) -> None:
        """End a scheduler; pods then wait."""
        self._scheduler_ports.pop(name, None)
        self.processes.stop([name], _GRACE_SECONDS)

    def restart_scheduler(
        self, config: Mapping[str, Any] | None = None, name: str = DEFAULT_SCHEDULER
    ) -> None:
        """Start a scheduler anew with another configuration; its metrics begin at zero."""
        self.stop_scheduler(name)
        self.start_scheduler(config, name)

    def scheduler_metrics(self, name: str = DEFAULT_SCHEDULER) -> str:
        """The scheduler's metrics in Prometheus' text format."""
        return self.read(f"https://{LOOPBACK}:{self._scheduler_ports[name]}", "/metrics")

    def scheduler_scrape_config(self, name: str = DEFAULT_SCHEDULER) -> dict[str, Any]:
        """A Prometheus scrape configuration for a scheduler."""
        return {
            "job_name": name,
            "scheme": "https",
            "tls_config": {"ca_file": str(self._accounts.authority)},
            "static_configs": [{"targets": [f"{LOOPBACK}:{self._scheduler_ports[name]}"]}],
        }

    def start_prometheus(
        self,
        scrape_configs: Sequence[Mapping[str, Any]],
        scrape_interval: str = "1s",
        rule_files: Sequence[Path] = (),
        name: str = "prometheus",
    ) -> str:
        """Start a Prometheus and return its URL. Scrape configurations are Prometheus' own, as mappings."""
        binary = ensure(["prometheus"], self.version, self._progress)["prometheus"]
        port = self._ports.claim()
        document = commands.prometheus_configuration(scrape_configs, scrape_interval, rule_files)
        config = self._write_config(name, document)
        argv = commands.prometheus(binary, port=port, config=config, data=self.directory / f"{name}-data")
        url = f"http://{LOOPBACK}:{port}"
        self._launch(name, argv, lambda: plain_get(f"{url}/-/ready", _PROBE_SECONDS))
        return url

    def claim_port(self) -> int:
        """A free loopback port that no other local cluster will take while this one runs."""
        return self._ports.claim()

    def wait_until_healthy(self, name: str, probe: Callable[[], object], needs: Sequence[str] = ()) -> None:
        """Call `probe` until it no longer raises OSError, HTTPException or RequestRefused.

        For servers started through `processes` too. Raises ServerFailed, with the end of the log, when the
        server or one that it `needs` ends, or READY_SECONDS pass.
        """
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                probe()
                return
            except (OSError, HTTPException, RequestRefused) as problem:
                self.processes.check([name, *needs])
                if time.monotonic() > deadline:
                    tail = self.processes.log_tail(name)
                    raise ServerFailed(
                        f"{name} was not ready within {READY_SECONDS:.0f} s ({problem}); {tail}"
                    ) from problem
            time.sleep(_READY_POLL_SECONDS)

    def _start_servers(self) -> None:
        self._start_api_server()
        controllers_healthy = self._start_controller_manager()
        kwok_healthy = self._start_kwok()
        for manifest in self._manifests:
            self.apply(manifest)
        if self._with_scheduler:
            self.start_scheduler(self._scheduler_config)
        self.wait_until_healthy("kube-controller-manager", controllers_healthy)
        self.wait_until_healthy("kwok", kwok_healthy)

    def _start_api_server(self) -> None:
        etcd_port, peer_port = self._ports.claim(), self._ports.claim()
        self._launch(
            "etcd", commands.etcd(self._paths["etcd"], self.directory / "etcd", etcd_port, peer_port)
        )
        argv = commands.api_server(
            self._paths["kube-apiserver"],
            port=self._api_port,
            etcd_port=etcd_port,
            authority=self._accounts.authority,
            server=self._accounts.server,
            token_keys=self._accounts.token_keys,
            kubelet_client=self._accounts.access(ADMIN, "admin").client,
            front_proxy_authority=self._accounts.front_proxy_authority,
            front_proxy=self._accounts.front_proxy,
            feature_gates=self._gates,
            runtime_config=self._runtime_config,
            mount_tokens=self._mount_tokens,
        )
        self._launch("kube-apiserver", argv, self._https_probe(self._api_port, "/readyz"), needs=["etcd"])

    def _start_controller_manager(self) -> Callable[[], object]:
        port = self._ports.claim()
        argv = commands.controller_manager(
            self._paths["kube-controller-manager"],
            port=port,
            kubeconfig=self._accounts.kubeconfig(CONTROLLER_MANAGER, "kube-controller-manager"),
            authority=self._accounts.authority,
            server=self._accounts.server,
            token_keys=self._accounts.token_keys,
            feature_gates=self._gates,
        )
        self._launch("kube-controller-manager", argv)
        return self._https_probe(port, "/healthz")

    def _start_kwok(self) -> Callable[[], object]:
        port = self._ports.claim()
        argv = commands.kwok(
            self._paths["kwok"],
            port=port,
            kubeconfig=self._accounts.kubeconfig(KWOK, "kwok"),
            configs=sorted(STAGES.glob("*.yaml")),
        )
        self._launch("kwok", argv)
        return lambda: plain_get(f"http://{LOOPBACK}:{port}/healthz", _PROBE_SECONDS)

    def _write_config(self, name: str, document: Mapping[str, Any]) -> Path:
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps(document, indent=2) + "\n")  # JSON is YAML
        return path

    def _launch(
        self,
        name: str,
        argv: Sequence[str],
        probe: Callable[[], object] | None = None,
        needs: Sequence[str] = (),
    ) -> None:
        """Start a server with its extra arguments; with a `probe`, wait for it, and stop it if that fails."""
        self.processes.start(name, [*argv, *self._extra.get(name, ())])
        if probe is None:
            return
        try:
            self.wait_until_healthy(name, probe, needs)
        except BaseException:
            self.processes.stop([name], _GRACE_SECONDS)
            raise

    def _https_probe(self, port: int, path: str) -> Callable[[], object]:
        return lambda: self.read(f"https://{LOOPBACK}:{port}", path)

    def read(self, url: str, path: str) -> str:
        """What a server with a certificate of this cluster's authority answers an administrator."""
        access = self._accounts.access(ADMIN, "admin", url)
        with Connection(access, _PROBE_SECONDS) as connection:
            return connection.text(path)
