"""The command line and configuration of each server of a local control plane. Values in, values out.

Everything binds to 127.0.0.1. Rate limits of the clients are lifted, because a test or a demo creates in
seconds what a real cluster sees in hours. Sources: the flags of kube-apiserver, kube-controller-manager and
kube-scheduler (kubernetes.io/docs/reference/command-line-tools-reference), KubeSchedulerConfiguration v1,
etcd's and kwok's own help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.local.certificates import KeyPair
from deploy.local.ports import LOOPBACK

SERVICE_CIDR = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"  # the API server's own Service gets the first one
POD_CIDR = "10.128.0.0/9"
KWOK_NODE_ANNOTATION = "kwok.x-k8s.io/node"
KWOK_NODE_VALUE = "fake"
FRONT_PROXY = "front-proxy-client"
_CLIENT_QPS = 2_000
_CLIENT_BURST = 4_000
# Of the documentation range: the API server insists on an address that is not loopback, and nobody uses it.
_ADVERTISED = "192.0.2.1"
# Simulated nodes never fail, so their leases may be long: at 5,000 nodes the renewals of 40 s leases are
# hundreds of writes a second, more than the work that is measured.
_NODE_LEASE_SECONDS = 400
_NODE_GRACE_SECONDS = 500


def etcd(binary: Path, data: Path, client_port: int, peer_port: int) -> list[str]:
    """etcd without fsync: the data of a local cluster is thrown away with it."""
    client, peer = (f"http://{LOOPBACK}:{port}" for port in (client_port, peer_port))
    return [
        str(binary),
        "--name=local",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(
    binary: Path,
    *,
    port: int,
    etcd_port: int,
    authority: Path,
    server: KeyPair,
    token_keys: KeyPair,
    kubelet_client: KeyPair,
    front_proxy_authority: Path,
    front_proxy: KeyPair,
    feature_gates: Mapping[str, bool],
    runtime_config: Mapping[str, str],
    mount_tokens: bool = False,
) -> list[str]:
    """kube-apiserver with TLS, client certificates, Node and RBAC authorisation, aggregation of further APIs.

    An aggregated API on this machine is reached by a Service of type ExternalName that names localhost.
    """
    return [
        str(binary),
        f"--etcd-servers=http://{LOOPBACK}:{etcd_port}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--advertise-address={_ADVERTISED}",
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={server.certificate}",
        f"--tls-private-key-file={server.key}",
        f"--client-ca-file={authority}",
        f"--service-account-key-file={token_keys.certificate}",
        f"--service-account-signing-key-file={token_keys.key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--kubelet-client-certificate={kubelet_client.certificate}",
        f"--kubelet-client-key={kubelet_client.key}",
        f"--requestheader-client-ca-file={front_proxy_authority}",
        f"--requestheader-allowed-names={FRONT_PROXY}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={front_proxy.certificate}",
        f"--proxy-client-key-file={front_proxy.key}",
        # A node's name is known to no name server here.
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--allow-privileged=true",
        # It mounts the token, and would make pods wait for the account of a namespace just created.
        *([] if mount_tokens else ["--disable-admission-plugins=ServiceAccount"]),
        "--max-requests-inflight=2000",
        "--max-mutating-requests-inflight=1000",
        "--shutdown-delay-duration=0s",
        *_gates(feature_gates),
        *([f"--runtime-config={_pairs(runtime_config)}"] if runtime_config else []),
    ]


def controller_manager(
    binary: Path,
    *,
    port: int,
    kubeconfig: Path,
    authority: Path,
    server: KeyPair,
    token_keys: KeyPair,
    feature_gates: Mapping[str, bool],
) -> list[str]:
    """kube-controller-manager, each controller under its own service account as in a real cluster."""
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={token_keys.key}",
        f"--root-ca-file={authority}",
        f"--kube-api-qps={_CLIENT_QPS}",
        f"--kube-api-burst={_CLIENT_BURST}",
        f"--node-monitor-grace-period={_NODE_GRACE_SECONDS}s",
        *_secure_serving(port, server),
        *_gates(feature_gates),
    ]


def scheduler(
    binary: Path, *, port: int, config: Path, server: KeyPair, feature_gates: Mapping[str, bool]
) -> list[str]:
    """kube-scheduler; its metrics are open to whoever reaches the loopback port."""
    return [str(binary), f"--config={config}", *_secure_serving(port, server), *_gates(feature_gates)]


def scheduler_configuration(config: Mapping[str, Any], kubeconfig: Path) -> dict[str, Any]:
    """The caller's KubeSchedulerConfiguration with what a local cluster needs filled in.

    `clientConnection.kubeconfig` and `leaderElection.leaderElect` are ours; the caller's other keys stay.
    """
    connection = {"qps": _CLIENT_QPS, "burst": _CLIENT_BURST, **config.get("clientConnection", {})}
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        **config,
        "clientConnection": {**connection, "kubeconfig": str(kubeconfig)},
        "leaderElection": {**config.get("leaderElection", {}), "leaderElect": False},
    }


def kwok(binary: Path, *, port: int, kubeconfig: Path, configs: Sequence[Path]) -> list[str]:
    """kwok for the nodes that carry its annotation; other nodes (a real kubelet's) are left alone."""
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        *(f"--config={config}" for config in configs),
        f"--manage-nodes-with-annotation-selector={KWOK_NODE_ANNOTATION}={KWOK_NODE_VALUE}",
        f"--node-lease-duration-seconds={_NODE_LEASE_SECONDS}",
        "--v=WARN",
        f"--cidr={POD_CIDR}",
        f"--server-address={LOOPBACK}:{port}",
    ]


def prometheus(binary: Path, *, port: int, config: Path, data: Path) -> list[str]:
    """Prometheus with its configuration reloadable over HTTP."""
    return [
        str(binary),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--web.enable-lifecycle",
        # A hidden flag: with the 5 s of its default the first scrape is 5 s away.
        "--scrape.discovery-reload-interval=100ms",
        "--log.level=warn",
    ]


def prometheus_configuration(
    scrape_configs: Sequence[Mapping[str, Any]], scrape_interval: str, rule_files: Sequence[Path]
) -> dict[str, Any]:
    """Prometheus' configuration file; scrapes and rules run at the same interval."""
    return {
        "global": {
            "scrape_interval": scrape_interval,
            "scrape_timeout": scrape_interval,
            "evaluation_interval": scrape_interval,
        },
        "scrape_configs": [dict(config) for config in scrape_configs],
        "rule_files": [str(path) for path in rule_files],
    }


def _secure_serving(port: int, server: KeyPair) -> list[str]:
    return [
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--tls-cert-file={server.certificate}",
        f"--tls-private-key-file={server.key}",
        "--authorization-always-allow-paths=/healthz,/livez,/readyz,/metrics,/metrics/resources",
    ]


def _gates(feature_gates: Mapping[str, bool]) -> list[str]:
    if not feature_gates:
        return []
    return ["--feature-gates=" + _pairs({name: str(on).lower() for name, on in feature_gates.items()})]


def _pairs(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items())
