"""An API server on loopback that answers by a script: pages, watch lines, silence, broken pipes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from tests.polling import LONGEST_SECONDS


class Exchange:
    """One request, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, released: threading.Event) -> None:
        parts = urlsplit(handler.path)
        self.method = handler.command
        self.path = parts.path
        self.query = dict(parse_qsl(parts.query))
        self.headers = handler.headers
        length = int(handler.headers.get("Content-Length") or 0)
        self.body = handler.rfile.read(length) if length else b""
        self._handler = handler
        self.released = released

    @property
    def watching(self) -> bool:
        return "watch" in self.query

    def json(self, status: int, body: object, **headers: str) -> None:
        self.raw(status, json.dumps(body).encode(), "application/json", **headers)

    def raw(self, status: int, body: bytes, content_type: str = "text/html", **headers: str) -> None:
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", content_type)
        self._handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def refuse(self, status: int, reason: str, message: str = "no", **headers: str) -> None:
        body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
        self.json(status, body, **headers)

    def begin_watch(self) -> None:
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "application/json")
        self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()

    def chunk(self, data: bytes) -> None:
        self._handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self._handler.wfile.flush()

    def event(self, kind: str, body: object) -> None:
        self.chunk(json.dumps({"type": kind, "object": body}).encode() + b"\n")

    def end_watch(self) -> None:
        self._handler.wfile.write(b"0\r\n\r\n")

    def drop(self) -> None:
        """Break the connection off."""
        self._handler.close_connection = True
        self._handler.connection.shutdown(socket.SHUT_RDWR)

    def hang(self) -> None:
        """Stay silent until the test ends."""
        self.released.wait(LONGEST_SECONDS)
        self._handler.close_connection = True


Script = Callable[[Exchange], None]


class ScriptedServer:
    """Serves ``script`` on a free loopback port; ``requests`` is what was asked, in order."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Exchange] = []
        released = self._released = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                exchange = Exchange(self, released)
                owner.requests.append(exchange)
                try:
                    owner.script(exchange)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the base class's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def config_map(name: str, version: int, **data: str) -> dict[str, object]:
    return {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
        },
        "data": data,
    }


def page(items: list[dict[str, object]], version: int, token: str = "") -> dict[str, object]:
    return {
        "kind": "ConfigMapList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": str(version), "continue": token},
        "items": items,
    }
