"""The gRPC server of the KEDA door: it listens only while this replica leads.

KEDA keeps its connection, so a replica that lost the lead has to end it (its streams in order first), and one
that does not lead must not be connected to: whoever dials again reaches the leader, or is refused and dials
once more. Plaintext without a certificate, as KEDA's own default (``enableTLS`` off); with one TLS, and with
an authority for clients mutual TLS (``tlsClientCert`` in the TriggerAuthentication).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import grpc

from autoscaler.doors.externalscaler import externalscaler_pb2_grpc as pb_grpc
from autoscaler.doors.keda import ExternalScaler

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.5
_GRACE_SECONDS: Final = 1.0
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", 4096),
)


class KedaServer:
    """Serves from ``start`` to ``stop``, while ``is_leader``."""

    def __init__(
        self,
        scaler: ExternalScaler,
        address: str,
        *,
        is_leader: Callable[[], bool],
        credentials: Callable[[], Any] | None = None,
    ) -> None:
        """``credentials`` makes server credentials when the server begins to listen; None for plaintext."""
        self.bound_port = 0  # 0 while not listening
        self._scaler = scaler
        self._address = address
        self._is_leader = is_leader
        self._credentials = credentials
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="keda", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and every stream with it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_GRACE_SECONDS + 5.0)

    async def _run(self) -> None:
        server: Any = None
        complained = False
        while not self._stop.is_set():
            leading = self._is_leader()
            if leading and server is None:
                server = await self._listen(complained)
                complained = server is None
            elif not leading and server is not None:
                log.info("KEDA door: closed, this replica does not lead")
                await self._close(server)
                server = None
            await asyncio.sleep(_LOOK_SECONDS)
        if server is not None:
            await self._close(server)

    async def _close(self, server: Any) -> None:
        self.bound_port = 0
        self._scaler.close()
        await server.stop(_GRACE_SECONDS)

    async def _listen(self, complained: bool) -> Any:
        """A server that listens, or None (and, but for the first time, silence) when it cannot."""
        self._scaler.opened()
        server = grpc.aio.server(options=_OPTIONS)
        pb_grpc.add_ExternalScalerServicer_to_server(self._scaler, server)
        try:
            if self._credentials is None:
                port = server.add_insecure_port(self._address)
            else:
                port = server.add_secure_port(self._address, self._credentials())
            await server.start()
        except (OSError, RuntimeError) as problem:
            if not complained:
                log.error("--keda-port: cannot listen on %s, trying again: %s", self._address, problem)
            await server.stop(None)
            return None
        self.bound_port = int(port)
        log.info("KEDA door: gRPC on %s", self._address)
        return server
