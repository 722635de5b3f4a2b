"""Small HTTP servers on loopback: what stands in for an exporter, a model server, a metrics API."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

TEXT = "text/plain; version=0.0.4"


class Answering(BaseHTTPRequestHandler):
    """Keeps connections open and says nothing on the terminal; ``respond`` is what a server adds."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.respond()

    def respond(self) -> None:
        """Answer one request; ``path`` and ``headers`` say what is asked."""
        self.send_error(404)

    def answer(self, body: bytes, content_type: str = TEXT, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        return


class QuietServer(ThreadingHTTPServer):
    """Clients that hang up are what some tests are about."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running(server: TCPServer) -> Iterator[int]:
    """Serve in a thread; gives the port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Serve on a free port, which it gives."""
    with running(QuietServer(("127.0.0.1", 0), handler)) as port:
        yield port


@contextmanager
def text_page(tell: Callable[[], str]) -> Iterator[int]:
    """A metrics page on a free port, told anew each time it is asked for."""

    class Page(Answering):
        def respond(self) -> None:
            self.answer(tell().encode())

    with served(Page) as port:
        yield port
