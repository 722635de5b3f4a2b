"""Serve the extender with uvicorn: one process, one event loop, connections kept open between scheduling
cycles.

kube-scheduler keeps its idle connections for 90 s, so ours are kept for 120: the server must not be the one
that closes them. uvloop and httptools parse the 200 KB requests of a large cluster; the access log is off,
since every cycle would write two lines.

SIGTERM and SIGINT drain: /readyz turns 503 at once, requests are served for ``drain_seconds`` more (with
``Connection: close``, so that clients move to another replica), then the listener closes and those in flight
are finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from scheduler.extender.straight import StraightProtocol

_KEEP_ALIVE_SECONDS = 120
_FINISH_SECONDS = 10
_BACKLOG = 1024


class CannotListen(Exception):
    """The address cannot be listened on; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files; with ``client_ca_file`` only clients with a certificate of that CA are served."""

    certificate_file: str
    key_file: str
    client_ca_file: str | None = None


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 takes a free one. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    # A restarted replica must get its port back while old connections are in TIME_WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise CannotListen(
            f"--listen {host}:{port}: {error}; expected a local address and a free port; "
            "choose another or stop what holds it"
        ) from error
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


class ExtenderServer(uvicorn.Server):
    """A uvicorn server that drains before it stops; ``started`` (uvicorn's) turns true when it serves."""

    def __init__(self, app: ASGIApp, *, tls: Tls | None = None, drain_seconds: float = 0.0) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=StraightProtocol,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_FINISH_SECONDS,
                ssl_certfile=tls.certificate_file if tls else None,
                ssl_keyfile=tls.key_file if tls else None,
                ssl_ca_certs=tls.client_ca_file if tls else None,
                ssl_cert_reqs=2 if tls and tls.client_ca_file else 0,
            )
        )
        self._drain_seconds = drain_seconds
        self._draining = False

    def draining(self) -> bool:
        """Whether the server is on its way out."""
        return self._draining

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: stop at once."""
        if self._draining or self._drain_seconds <= 0.0:
            self._draining = True
            super().handle_exit(sig, frame)
            return
        self._draining = True
        asyncio.get_running_loop().call_later(self._drain_seconds, super().handle_exit, sig, frame)

    def stop(self) -> None:
        """Stop without a signal, from any thread."""
        self._draining = True
        self.should_exit = True

    def serve_on(self, listener: socket.socket) -> None:
        """Serve until told to stop; call from the main thread if signals are to be heard."""
        with _signals_survived():
            self.run(sockets=[listener])


@contextlib.contextmanager
def _signals_survived() -> Iterator[None]:
    """uvicorn raises the signal again once it has stopped; the caller still has threads to join then."""
    held: list[tuple[signal.Signals, Callable[[int, FrameType | None], object] | int | None]] = []
    with contextlib.suppress(
        ValueError
    ):  # not in the main thread: uvicorn does not touch signals there either
        for name in (signal.SIGTERM, signal.SIGINT):
            held.append((name, signal.signal(name, lambda *_: None)))
    try:
        yield
    finally:
        for name, handler in held:
            signal.signal(name, handler)


def settle_memory() -> None:
    """Move everything alive out of the collector's sight, once the fleet is loaded: a full collection
    would stall requests.
    """
    gc.collect()
    gc.freeze()
