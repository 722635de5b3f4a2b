"""Put the doors together: which are open, on which port, with which certificates; start and stop.

Both are closed unless asked for. Raises NotServing (a ValueError) while they are built, so that a bad flag is
found before anything runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from autoscaler.doors.access_review import AccessReview
from autoscaler.doors.advice import Advice, Result
from autoscaler.doors.external_metrics import create_app
from autoscaler.doors.front_proxy import CONFIG_MAP, NAMESPACE, Trust, TrustRefused, read_trust
from autoscaler.doors.keda import ExternalScaler
from autoscaler.doors.keda_server import KedaServer
from autoscaler.doors.leader_label import LeaderLabel
from autoscaler.doors.tls_server import CertificateFiles, NotServing, TlsServer, listening
from autoscaler.grpc_tls import server_credentials
from cluster.client import Api
from cluster.reflector import Reflector
from cluster.wire import ConfigMap

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """``None`` for a port: that door stays closed; 0: the system chooses. ``host`` "" for every address.
    ``pod`` is our own pod's name, for the leader's label; None where a single replica runs and its Service
    selects it without.
    """

    external_metrics_port: int | None = None
    keda_port: int | None = None
    host: str = ""
    certificate: str | None = None
    key: str | None = None
    keda_client_authority: str | None = None
    pod: str | None = None


CLOSED: Final = DoorOptions()


class Doors:
    """The doors of one controller."""

    def __init__(
        self,
        options: DoorOptions,
        api: Api,
        namespace: str,
        advice: Advice,
        is_leader: Callable[[], bool],
        observe: Callable[[str, Result], None] = lambda _door, _result: None,
        *,
        dry_run: bool = False,
    ) -> None:
        """Raise NotServing for options that cannot be served. ``observe`` is told of every answer. With
        ``dry_run`` our pod is left without the label: nothing is handed out, and nothing written.
        """
        self.external_metrics: TlsServer | None = None
        self.keda: KedaServer | None = None
        self._trust: FrontProxyTrust | None = None
        files = _files(options)
        if options.external_metrics_port is not None:
            if files is None:
                raise NotServing(
                    "--external-metrics-port: expected --serving-cert-file and --serving-key-file beside it; "
                    "kube-apiserver speaks to an aggregated API over TLS only"
                )
            self._trust = FrontProxyTrust(api, self._trusted)
            app = create_app(
                advice,
                lambda: trust.current,
                AccessReview(api).allows,
                time.time,
                lambda result: observe("external_metrics", result),
            )
            trust = self._trust
            listener = listening("--external-metrics-port", options.external_metrics_port, options.host)
            self.external_metrics = TlsServer(app, listener, files)
        if options.keda_port is not None:
            credentials = None
            if files is not None:
                certificate, key, clients = files.certificate, files.key, options.keda_client_authority
                credentials = lambda: server_credentials(certificate, key, clients)  # noqa: E731
            elif options.keda_client_authority is not None:
                raise NotServing(
                    "--keda-client-ca-file: expected --serving-cert-file and --serving-key-file too"
                )
            host = f"[{options.host}]" if ":" in options.host else options.host or "[::]"
            address = f"{host}:{options.keda_port}"
            self.keda = KedaServer(
                ExternalScaler(advice, observe=lambda result: observe("keda", result)),
                address,
                is_leader=is_leader,
                credentials=credentials,
            )
        any_open = self.external_metrics is not None or self.keda is not None
        self._label: LeaderLabel | None = None
        if any_open and options.pod is not None and not dry_run:
            self._label = LeaderLabel(api, namespace, options.pod, is_leader=is_leader)

    def start(self) -> None:
        """Open them."""
        for part in (self._trust, self.external_metrics, self.keda, self._label):
            if part is not None:
                part.start()
        if self.external_metrics is not None:
            log.info("external metrics: https on port %d", self.external_metrics.port)

    def stop(self) -> None:
        """Close them: the label first, so that Services stop sending."""
        for part in (self._label, self.keda, self.external_metrics, self._trust):
            if part is not None:
                part.stop()

    def _trusted(self, trust: Trust) -> None:
        if self.external_metrics is not None:
            self.external_metrics.trust_clients_of(trust.authority)


class FrontProxyTrust:
    """Follows the ConfigMap that says which front proxy to trust. A bad edit leaves the last good one."""

    def __init__(self, api: Api, on_changed: Callable[[Trust], None]) -> None:
        self.current: Trust | None = None
        self._on_changed = on_changed
        self._reflector = Reflector(
            api,
            f"/api/v1/namespaces/{NAMESPACE}/configmaps",
            ConfigMap,
            self,
            field_selector=f"metadata.name={CONFIG_MAP}",
        )

    def start(self) -> None:
        """Begin to watch."""
        self._reflector.start()

    def stop(self) -> None:
        """End the watch."""
        self._reflector.stop()

    def replaced(self, items: Sequence[ConfigMap]) -> None:
        """Take the complete state (called by the reflector)."""
        if not items:
            log.warning("ConfigMap %s/%s does not exist: nobody can be let in", NAMESPACE, CONFIG_MAP)
        for item in items:
            self._take(item)

    def changed(self, kind: str, item: ConfigMap) -> None:
        """Take one change (called by the reflector)."""
        if kind != "DELETED":
            self._take(item)

    def _take(self, item: ConfigMap) -> None:
        try:
            trust = read_trust(item.data)
        except TrustRefused as refused:
            log.warning("%s", refused)
            return
        if trust != self.current:
            self._on_changed(trust)
            self.current = trust


def _files(options: DoorOptions) -> CertificateFiles | None:
    if options.certificate is None and options.key is None:
        return None
    if options.certificate is None or options.key is None:
        raise NotServing("--serving-cert-file and --serving-key-file: expected both or none")
    return CertificateFiles(options.certificate, options.key)
