"""The API client with 30 MiB less: no official client in memory, for a process that runs on every GPU node.

Same requests, watches and errors as ``cluster.client``; only who we are and whom we trust is read here: the
pod's service account (its token is read anew every minute, as the kubelet rotates it), or a kubeconfig with
certificates or a token. A kubeconfig with an exec plugin or another provider is left to the official client.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.api_errors import NotConfigured
from cluster.client import Api

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_TOKEN_SECONDS = 60.0
_POOL_CONNECTIONS = 8
_STRANGE_USERS = ("exec", "auth-provider", "username", "as")


class _NeedsOfficialClientError(Exception):
    """The kubeconfig uses what is not read here."""


@dataclass
class Access:
    """Where the API server is, and how we are let in."""

    host: str
    context: ssl.SSLContext | None
    token: str = ""
    token_file: Path | None = None
    read_at_seconds: float = field(default=-1e9)

    def bearer(self, now_seconds: float) -> str:
        """The token, read anew when the file's was read a minute ago. Raises NotConfigured."""
        if self.token_file is not None and now_seconds - self.read_at_seconds > _TOKEN_SECONDS:
            try:
                self.token = self.token_file.read_text().strip()
            except OSError as problem:
                raise NotConfigured(f"{self.token_file}: {problem.strerror}, expected a token") from problem
            self.read_at_seconds = now_seconds
        return self.token


class LightApi(Api):
    """``Api`` over an ``Access``."""

    def _load(self) -> None:
        import urllib3

        access: Access = self._configure()
        self._configuration = access
        self._host = access.host.rstrip("/")
        self._pool = urllib3.PoolManager(
            num_pools=2, maxsize=_POOL_CONNECTIONS, ssl_context=access.context, retries=False
        )
        self._loads += 1

    def _credentials(self) -> dict[str, str]:
        token = self._configuration.bearer(time.monotonic())
        return {"authorization": f"Bearer {token}"} if token else {}


def connect(kubeconfig: str | None, **options: Any) -> Api:
    """Connect as the pod's service account, or by a kubeconfig: the given one, $KUBECONFIG, ~/.kube/config.

    Raises NotConfigured.
    """
    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return LightApi(in_cluster, **options)
    path = Path(kubeconfig or os.environ.get("KUBECONFIG", "") or Path.home() / ".kube" / "config")
    load: Callable[[], Access] = lambda: from_kubeconfig(path)  # noqa: E731
    try:
        return LightApi(load, **options)
    except _NeedsOfficialClientError:
        return Api.connect(str(path), **options)


def in_cluster(folder: Path = SERVICE_ACCOUNT) -> Access:
    """The pod's service account. Raises NotConfigured."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    name = f"[{host}]" if ":" in host else host
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    except OSError as problem:
        raise NotConfigured(f"{folder / 'ca.crt'}: {problem}, expected the cluster's authority") from problem
    access = Access(f"https://{name}:{port}", context, token_file=folder / "token")
    access.bearer(time.monotonic())
    return access


def from_kubeconfig(path: Path) -> Access:
    """The current context of a kubeconfig. Raises NotConfigured, _NeedsOfficialClientError."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
        context = _named(document, "contexts", document["current-context"])["context"]
        cluster = _named(document, "clusters", context["cluster"])["cluster"]
        user = _named(document, "users", context["user"])["user"] if context.get("user") else {}
        if any(key in (user or {}) for key in _STRANGE_USERS) or "proxy-url" in cluster:
            raise _NeedsOfficialClientError
        return _access(cluster, user or {}, path.parent)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, StopIteration) as problem:
        raise NotConfigured(
            f"{path}: got {type(problem).__name__}: {problem}, expected a kubeconfig; give --kubeconfig, set "
            "KUBECONFIG or run in a pod"
        ) from problem


def _named(document: Any, kind: str, name: str) -> Any:
    return next(entry for entry in document[kind] if entry["name"] == name)


def _access(cluster: Any, user: Any, folder: Path) -> Access:
    host = str(cluster["server"])
    token_file = folder / user["tokenFile"] if user.get("tokenFile") else None
    access = Access(host, None, str(user.get("token", "")), token_file)
    if not host.startswith("https:"):
        return access
    authority = cluster.get("certificate-authority-data")
    context = ssl.create_default_context(
        cafile=str(folder / cluster["certificate-authority"])
        if cluster.get("certificate-authority")
        else None,
        cadata=base64.b64decode(authority).decode() if authority else None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = user.get("client-certificate"), user.get("client-key")
    if certificate and key:
        context.load_cert_chain(folder / certificate, folder / key)
    elif user.get("client-certificate-data"):
        _load_data(context, user["client-certificate-data"], user["client-key-data"])
    access.context = context
    return access


def _load_data(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """The ssl module reads files only: one that exists for this call."""
    with tempfile.NamedTemporaryFile(prefix="slicewise-") as both:  # mode 0600
        both.write(base64.b64decode(certificate) + b"\n" + base64.b64decode(key))
        both.flush()
        context.load_cert_chain(both.name)
