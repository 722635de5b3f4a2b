"""The real KEDA beside a local control plane: its operator and its external metrics API.

    with Keda(cluster, extras.built("keda")):
        cluster.request("POST", ".../scaledobjects", ...)

Custom resources, roles and bindings are those of the release (`config/`); the two programs run on this
machine under `keda`'s service account with exactly those rights. What a pod of KEDA has and this has not: a
Service in front (the API server reaches the adapter through one of type ExternalName, the adapter the
operator by its port), and certificates that the operator makes itself; the cluster's authority issues them
here. KEDA's admission webhooks are not run.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from deploy.local.apply import Document, load
from deploy.local.conditions import condition
from deploy.local.control_plane import ControlPlane
from deploy.local.extras import Built
from deploy.local.ports import LOOPBACK
from deploy.local.rest import plain_get

NAMESPACE = "keda"
OPERATOR, ADAPTER = "keda-operator", "keda-adapter"
API_SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
_ACCOUNT = "keda-operator"
_SERVICE = "keda-metrics-apiserver"
_GRACE_SECONDS = 10.0
_PROBE_SECONDS = 5.0


class Keda:
    """KEDA for one control plane. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self, cluster: ControlPlane, built: Built) -> None:
        self._cluster = cluster
        self._built = built
        self._folder = cluster.directory / "keda"

    def __enter__(self) -> Keda:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Keda:
        """Install the manifests, start both programs and wait until both say that they are ready.

        Raises ManifestRefused, ServerFailed (with the end of the program's log).
        """
        self._cluster.apply(self._documents())
        metrics = self._start_operator()
        self._start_adapter(metrics)
        return self

    def stop(self) -> None:
        """End both programs, and take the external metrics API away; the custom resources stay."""
        self._cluster.processes.stop([ADAPTER, OPERATOR], _GRACE_SECONDS)
        self._cluster.request("DELETE", API_SERVICE, accepted=frozenset({200, 202, 404}))

    def log(self, program: str) -> str:
        """What OPERATOR or ADAPTER has said so far."""
        return self._cluster.processes.log(program).read_text(errors="replace")

    def available(self) -> bool:
        """Whether the API server reaches KEDA's external metrics."""
        return condition(self._cluster.request("GET", API_SERVICE), "Available") == "True"

    def _documents(self) -> Iterator[Document]:
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        account = {"name": _ACCOUNT, "namespace": NAMESPACE}
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}
        config = self._built.files / "config"
        roles = ("rbac/role.yaml", "rbac/role_binding.yaml")
        adapter = ("metrics-server/role.yaml", "metrics-server/role_binding.yaml")
        for path in (
            *sorted((config / "crd" / "bases").glob("*.yaml")),
            *(config / r for r in roles + adapter),
        ):
            yield from load(path)

    def _start_operator(self) -> str:
        """The operator; the address at which it tells metrics."""
        told, health, metrics = (f"{LOOPBACK}:{self._cluster.claim_port()}" for _ in range(3))
        server = self._cluster.server_certificate(OPERATOR, [LOOPBACK])
        certificates = self._certificates(OPERATOR, server.certificate.read_bytes(), server.key.read_bytes())
        arguments = [
            str(self._built.programs[OPERATOR]),
            f"--metrics-bind-address={told}",
            f"--health-probe-bind-address={health}",
            f"--metrics-service-bind-address={metrics}",
            f"--cert-dir={certificates}",
            "--zap-log-level=info",
            "--zap-encoder=console",
        ]
        self._launch(OPERATOR, arguments, f"http://{health}/readyz")
        return metrics

    def _start_adapter(self, operator: str) -> None:
        secure, told = self._cluster.claim_port(), self._cluster.claim_port()
        service = f"{_SERVICE}.{NAMESPACE}.svc"
        serving = self._cluster.server_certificate(ADAPTER, [LOOPBACK, service])
        user = json.loads(self._kubeconfig.read_text())["users"][0]["user"]
        client = {part: base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")}
        kubeconfig = self._kubeconfig
        arguments = [
            str(self._built.programs[ADAPTER]),
            f"--bind-address={LOOPBACK}",
            f"--secure-port={secure}",
            f"--port={told}",
            f"--metrics-service-address={operator}",
            f"--cert-dir={self._certificates(ADAPTER, client['certificate'], client['key'])}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self._cluster.certificate_authority}",
            f"--lister-kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--zap-log-level=info",
        ]
        self._launch(ADAPTER, arguments, None)
        url = f"https://{LOOPBACK}:{secure}"
        self._cluster.wait_until_healthy(ADAPTER, lambda: self._cluster.read(url, "/readyz"))
        self._cluster.apply(self._api(secure))

    def _api(self, port: int) -> Iterator[Document]:
        """The APIService of the release, with this machine behind it."""
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _SERVICE, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        }
        (api,) = load(self._built.files / "config" / "metrics-server" / "api_service.yaml")
        authority = base64.b64encode(self._cluster.certificate_authority.read_bytes()).decode()
        spec: dict[str, Any] = {**api["spec"], "caBundle": authority}
        spec["service"] = {**spec["service"], "port": port}
        yield {**api, "spec": spec}

    @property
    def _kubeconfig(self) -> Path:
        return self._cluster.kubeconfig_for(_ACCOUNT, NAMESPACE)

    def _certificates(self, name: str, certificate: bytes, key: bytes) -> Path:
        """A folder as KEDA's Secret of certificates is mounted."""
        folder = self._folder / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = self._cluster.certificate_authority.read_bytes()
        for file, content in {"ca.crt": authority, "tls.crt": certificate, "tls.key": key}.items():
            (folder / file).write_bytes(content)
        return folder

    def _launch(self, name: str, arguments: list[str], ready: str | None) -> None:
        environment: Mapping[str, str] = {
            **os.environ,
            "KUBECONFIG": str(self._kubeconfig),
            "WATCH_NAMESPACE": "",
            "POD_NAMESPACE": NAMESPACE,
            "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        }
        self._cluster.processes.start(name, arguments, environment)
        if ready is not None:
            self._cluster.wait_until_healthy(name, lambda: plain_get(ready, _PROBE_SECONDS))
