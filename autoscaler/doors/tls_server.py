"""An HTTPS server in a thread of its own that tells its app whose client certificate a connection has.

The chain is checked against the authority that clients must have; the common names of the certificate go into
the ASGI scope, since ASGI has no field for them. A client without a certificate gets in and is refused by the
app, as Kubernetes' own servers do. Certificate files are read again when they change, so that a rotated
certificate serves the next connection. An authority that is no longer trusted is forgotten at a restart.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from autoscaler.doors.external_metrics import PEER_NAMES
from cluster.periodic import Periodic

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 3


class NotServing(ValueError):
    """The server cannot begin: the message says where, why and what to do."""


def listening(flag: str, port: int, host: str = "") -> socket.socket:
    """A listening socket on all addresses (or ``host``). Raises NotServing that names ``flag``."""
    dual = not host and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual
        )
    except OSError as problem:
        raise NotServing(f"{flag}: cannot listen on port {port}: {problem}; choose a free port") from None


class CertificateFiles:
    """A serving certificate and its key, in PEM files that somebody may rotate."""

    def __init__(self, certificate: str, key: str) -> None:
        """Raise NotServing for files that are no pair."""
        self.certificate, self.key = certificate, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._times()
        try:
            self.context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as problem:
            raise NotServing(
                f"--serving-cert-file {certificate}, --serving-key-file {key}: got no usable pair "
                f"({problem}); expected a PEM certificate (with its chain) and its key"
            ) from None

    def look(self) -> None:
        """Take up changed files; a bad pair leaves the old one serving."""
        times = self._times()
        if times == self._seen:
            return
        try:
            self.context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as problem:
            log.warning(
                "%s: the new serving certificate is not usable, the old one stays: %s", self.key, problem
            )
            return
        self._seen = times
        log.info("%s: new serving certificate", self.certificate)

    def _times(self) -> tuple[int, ...]:
        try:
            return tuple(os.stat(path).st_mtime_ns for path in (self.certificate, self.key))
        except OSError:
            return ()


class _NamingProtocol(H11Protocol):
    """Puts the common names of the client's certificate into the scope of each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        names = common_names(transport.get_extra_info("peercert"))
        app: Any = self.app

        async def naming(scope: Any, receive: Any, send: Any) -> None:
            scope[PEER_NAMES] = names
            await app(scope, receive, send)

        self.app = naming


def common_names(certificate: Any) -> frozenset[str] | None:
    """The common names in what ``ssl`` tells about a checked certificate; None for no certificate."""
    if not certificate:
        return None
    return frozenset(
        value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"
    )


class TlsServer:
    """Serves ``app`` from ``start`` to ``stop``."""

    def __init__(self, app: Any, listener: socket.socket, files: CertificateFiles) -> None:
        self._listener = listener
        self._files = files
        files.context.verify_mode = ssl.CERT_OPTIONAL
        config = uvicorn.Config(
            app,
            http=_NamingProtocol,
            ssl_context_factory=lambda _config, _default: files.context,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="external metrics", daemon=True)
        self._looking = Periodic(
            "serving certificate", files.look, _LOOK_SECONDS, if_failed="the serving certificate was not read"
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._listener.getsockname()[1])

    def trust_clients_of(self, authority: str) -> None:
        """Take client certificates of this authority (PEM) from now on, besides those trusted already."""
        self._files.context.load_verify_locations(cadata=authority)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()
        self._looking.start()

    def stop(self) -> None:
        """Answer what is under way, then end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_GRACE_SECONDS + 2.0)
        self._looking.stop(_GRACE_SECONDS + 2.0)
        self._listener.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._listener])
