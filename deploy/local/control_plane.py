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
import datetime
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from deploy.local import commands
from deploy.local.apply import Document, apply, load
from deploy.local.binaries import CONTROL_PLANE, ensure
from deploy.local.build import Progress
from deploy.local.certificates import (
    ADMIN,
    CONTROLLER_MANAGER,
    KWOK,
    SCHEDULER,
    Authority,
    Identity,
    service_account,
    write_kubeconfig,
)
from deploy.local.ports import LOOPBACK, PortClaims
from deploy.local.processes import Processes, ServerFailed
from deploy.local.rest import JSON, SUCCESS, Access, Connection, RequestRefused, plain_get
from deploy.local.versions import DEFAULT_KUBERNETES

RBAC_MANIFEST = Path(__file__).parent.parent / "manifests" / "rbac.yaml"
STAGES = Path(__file__).parent / "stages"
SYSTEM_NAMESPACE = "slicewise-system"
DEFAULT_SCHEDULER = "kube-scheduler"
READY_SECONDS = 60.0
_READY_POLL_SECONDS = 0.03
_GRACE_SECONDS = 5.0


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
        progress: Progress | None = None,
    ) -> None:
        """Nothing is started yet.

        directory: where certificates, logs and data go; without one, a temporary folder that goes with the
        cluster. scheduler_config: a KubeSchedulerConfiguration without connection and leader election.
        with_scheduler: False to begin without one (`start_scheduler` later). extra_arguments: more flags by
        server name, as in {"kube-controller-manager": ["--horizontal-pod-autoscaler-sync-period=2s"]}.
        manifests: applied when the API server is ready. progress: told about builds.
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
        self._progress: Progress = progress or (lambda _: None)
        self._ports = PortClaims()
        self._lock = threading.RLock()
        self._processes: Processes | None = None
        self._connection: Connection | None = None
        self._kubeconfigs: dict[Identity, Path] = {}
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
        self._authority = Authority(self.directory / "pki", datetime.datetime.now(datetime.UTC))
        self._server = self._authority.server("server")
        self._token_keys = self._authority.signing_key("service-account")
        self._admin = self._authority.client("admin", ADMIN)
        self._issued = {ADMIN: self._admin}
        shutil.rmtree(self.directory / "logs", ignore_errors=True)
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
            self._kubeconfigs.clear()
            self._scheduler_ports.clear()

    @property
    def url(self) -> str:
        """The API server's https URL."""
        return f"https://{LOOPBACK}:{self._api_port}"

    @property
    def certificate_authority(self) -> Path:
        """The certificate to trust for every https server of this cluster."""
        return self._authority.certificate

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._kubeconfig(ADMIN, "admin")

    def kubeconfig_for(self, component: str, namespace: str = SYSTEM_NAMESPACE) -> Path:
        """A kubeconfig with exactly the rights of a service account, such as `slicewise-controller`."""
        prefix = "" if namespace == SYSTEM_NAMESPACE else f"{namespace}-"
        return self._kubeconfig(service_account(namespace, component), f"{prefix}{component}")

    @property
    def processes(self) -> Processes:
        """The running servers, for starting further ones that must end with the cluster."""
        if self._processes is None:
            raise ServerFailed(f"the cluster {self.name!r} is not running")
        return self._processes

    def connect(self, component: str | None = None, timeout_seconds: float = 30.0) -> Connection:
        """A new connection to the API server, for one thread: as administrator or as a component."""
        pair = self._admin
        if component is not None:
            identity = service_account(SYSTEM_NAMESPACE, component)
            self._kubeconfig(identity, component)
            pair = self._issued[identity]
        return Connection(Access(self.url, self._authority.certificate, pair), timeout_seconds)

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
        path = self.directory / f"{name}.yaml"
        kubeconfig = self._kubeconfig(SCHEDULER, "kube-scheduler")
        document = commands.scheduler_configuration(config or {}, kubeconfig)
        path.write_text(json.dumps(document, indent=2) + "\n")
        argv = commands.scheduler(
            self._paths["kube-scheduler"],
            port=port,
            config=path,
            server=self._server,
            feature_gates=self._gates,
        )
        self.processes.start(name, [*argv, *self._extra.get(name, ())])
        self._wait(name, self._https_probe(port, "/healthz"))
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
        return self._read(self._scheduler_ports[name], "/metrics")

    def scheduler_scrape_config(self, name: str = DEFAULT_SCHEDULER) -> dict[str, Any]:
        """A Prometheus scrape configuration for a scheduler."""
        return {
            "job_name": name,
            "scheme": "https",
            "tls_config": {"ca_file": str(self._authority.certificate)},
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
        config = self.directory / f"{name}.yaml"
        document = commands.prometheus_configuration(scrape_configs, scrape_interval, rule_files)
        config.write_text(json.dumps(document, indent=2) + "\n")
        data = self.directory / f"{name}-data"
        argv = commands.prometheus(binary, port=port, config=config, data=data)
        self.processes.start(name, [*argv, *self._extra.get(name, ())])
        url = f"http://{LOOPBACK}:{port}"
        self._wait(name, lambda: plain_get(f"{url}/-/ready", 2.0))
        return url

    def claim_port(self) -> int:
        """A free loopback port that no other local cluster will take while this one runs."""
        return self._ports.claim()

    def _start_servers(self) -> None:
        self._start_api_server()
        self._start_controller_manager()
        self._start_kwok()
        for manifest in self._manifests:
            self.apply(manifest)
        if self._with_scheduler:
            self.start_scheduler(self._scheduler_config)
        self._wait("kube-controller-manager", self._https_probe(self._controller_port, "/healthz"))
        self._wait("kwok", lambda: plain_get(f"http://{LOOPBACK}:{self._kwok_port}/healthz", 2.0))

    def _start_api_server(self) -> None:
        etcd_port, peer_port, self._api_port = (self._ports.claim() for _ in range(3))
        data = self.directory / "etcd"
        shutil.rmtree(
            data, ignore_errors=True
        )  # its authority is new: objects of an earlier run are of no use
        argv = commands.etcd(self._paths["etcd"], data, etcd_port, peer_port)
        self.processes.start("etcd", [*argv, *self._extra.get("etcd", ())])
        argv = commands.api_server(
            self._paths["kube-apiserver"],
            port=self._api_port,
            etcd_port=etcd_port,
            authority=self._authority.certificate,
            server=self._server,
            token_keys=self._token_keys,
            feature_gates=self._gates,
            runtime_config=self._runtime_config,
        )
        self.processes.start("kube-apiserver", [*argv, *self._extra.get("kube-apiserver", ())])
        self._wait("kube-apiserver", self._https_probe(self._api_port, "/readyz"))

    def _start_controller_manager(self) -> None:
        self._controller_port = self._ports.claim()
        argv = commands.controller_manager(
            self._paths["kube-controller-manager"],
            port=self._controller_port,
            kubeconfig=self._kubeconfig(CONTROLLER_MANAGER, "kube-controller-manager"),
            authority=self._authority.certificate,
            server=self._server,
            token_keys=self._token_keys,
            feature_gates=self._gates,
        )
        extra = self._extra.get("kube-controller-manager", ())
        self.processes.start("kube-controller-manager", [*argv, *extra])

    def _start_kwok(self) -> None:
        self._kwok_port = self._ports.claim()
        options = self.directory / "kwok.yaml"
        options.write_text(json.dumps(commands.kwok_options(), indent=2) + "\n")
        argv = commands.kwok(
            self._paths["kwok"],
            port=self._kwok_port,
            kubeconfig=self._kubeconfig(KWOK, "kwok"),
            configs=[options, *sorted(STAGES.glob("*.yaml"))],
        )
        self.processes.start("kwok", [*argv, *self._extra.get("kwok", ())])

    def _kubeconfig(self, identity: Identity, file_name: str) -> Path:
        with self._lock:
            if identity not in self._kubeconfigs:
                if identity not in self._issued:
                    self._issued[identity] = self._authority.client(file_name, identity)
                pair = self._issued[identity]
                path = self.directory / f"{file_name}.kubeconfig"
                authority = self._authority.certificate
                write_kubeconfig(path, self.url, authority, pair, identity.user, self.name)
                self._kubeconfigs[identity] = path
            return self._kubeconfigs[identity]

    def _https_probe(self, port: int, path: str) -> Callable[[], object]:
        return lambda: self._read(port, path)

    def _read(self, port: int, path: str) -> str:
        access = Access(f"https://{LOOPBACK}:{port}", self._authority.certificate, self._admin)
        with Connection(access, 5.0) as connection:
            return connection.text(path)

    def _wait(self, name: str, probe: Callable[[], object]) -> None:
        """Until `probe` answers. Raises ServerFailed when the server ends or READY_SECONDS pass."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                probe()
                return
            except (OSError, RequestRefused) as problem:
                self.processes.check([name])
                if time.monotonic() > deadline:
                    tail = self.processes.log_tail(name)
                    raise ServerFailed(
                        f"{name} was not ready within {READY_SECONDS:.0f} s ({problem}); {tail}"
                    ) from problem
            time.sleep(_READY_POLL_SECONDS)
