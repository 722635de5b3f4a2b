"""Makes a server on this machine's loopback reachable from pods, which have no way to a loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer

from tests.loopback_pages import running

_CHUNK_BYTES = 1 << 16


@contextmanager
def relayed(address: str, port: int) -> Iterator[int]:
    """Hand on every connection to a free port of ``address``, which it gives, to ``port`` on loopback."""

    class OneConnection(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as inside:
                back = threading.Thread(target=_pump, args=(inside, self.request), daemon=True)
                back.start()
                _pump(self.request, inside)
                back.join()

    server = ThreadingTCPServer((address, 0), OneConnection)
    server.daemon_threads = True
    with running(server) as given:
        yield given


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(_CHUNK_BYTES):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one of the two is gone, and so is the connection
