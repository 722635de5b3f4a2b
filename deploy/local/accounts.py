"""Who can reach one local cluster: its authority, its servers' certificate, and the clients issued so far.

An account is issued on first use and kept: the same identity gets the same certificate and kubeconfig.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Sequence
from pathlib import Path

from deploy.local.certificates import Authority, Identity, KeyPair, write_kubeconfig
from deploy.local.commands import FRONT_PROXY
from deploy.local.rest import Access


class Accounts:
    """The accounts of the cluster at `url`, with files in `directory`. Safe to use from several threads."""

    def __init__(self, directory: Path, url: str, cluster: str) -> None:
        self.url = url
        self._directory = directory
        self._cluster = cluster
        self._authority = Authority(directory / "pki", datetime.datetime.now(datetime.UTC))
        self.server = self._authority.server("server")
        self.token_keys = self._authority.signing_key("service-account")
        # Of an authority of its own: a client of the cluster must not be able to pass for the front proxy.
        proxies = Authority(directory / "pki" / "front-proxy", datetime.datetime.now(datetime.UTC))
        self.front_proxy_authority = proxies.certificate
        self.front_proxy = proxies.client("client", Identity(FRONT_PROXY))
        self._issued: dict[Identity, tuple[KeyPair, Path]] = {}
        self._lock = threading.Lock()

    @property
    def authority(self) -> Path:
        """The certificate to trust for every https server of the cluster."""
        return self._authority.certificate

    def kubeconfig(self, identity: Identity, file_name: str) -> Path:
        """The identity's kubeconfig."""
        return self._issue(identity, file_name)[1]

    def server_at(self, name: str, addresses: Sequence[str]) -> KeyPair:
        """A certificate for a further server of the cluster, such as a kubelet's; names may be among them."""
        return self._authority.server(name, addresses)

    def access(self, identity: Identity, file_name: str, url: str | None = None) -> Access:
        """What a connection as this identity needs, to the API server or to another server of the cluster."""
        return Access(url or self.url, self.authority, self._issue(identity, file_name)[0])

    def _issue(self, identity: Identity, file_name: str) -> tuple[KeyPair, Path]:
        with self._lock:
            if identity not in self._issued:
                pair = self._authority.client(file_name, identity)
                path = self._directory / f"{file_name}.kubeconfig"
                write_kubeconfig(path, self.url, self.authority, pair, identity.user, self._cluster)
                self._issued[identity] = pair, path
            return self._issued[identity]
