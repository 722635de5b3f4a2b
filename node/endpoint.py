"""The node process's small HTTP page: ``/metrics``, ``/readyz`` and ``/healthz``.

The standard library's server, one thread a request: it is asked twice a minute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class EndpointRefused(Exception):
    """The address cannot be served."""


class Endpoint:
    """``waiting`` names what is not ready yet; ``alive`` says why the process should be restarted, or ""."""

    def __init__(
        self,
        address: str,
        *,
        metrics: Callable[[], tuple[bytes, str]],
        waiting: Callable[[], list[str]],
        alive: Callable[[], str],
    ) -> None:
        """``address``: "host:port", port 0 for a free one. Raises EndpointRefused."""
        host, _, port = address.rpartition(":")

        class Page(BaseHTTPRequestHandler):
            """Answers one request."""

            def do_GET(self) -> None:
                """Answer GET."""
                if self.path == "/metrics":
                    page, kind = metrics()
                    self._answer(200, page, kind)
                elif self.path == "/readyz":
                    missing = waiting()
                    text = f"waiting for {', '.join(missing)}\n" if missing else "ok\n"
                    self._answer(503 if missing else 200, text.encode())
                elif self.path == "/healthz":
                    problem = alive()
                    self._answer(500 if problem else 200, (problem or "ok").encode() + b"\n")
                else:
                    self._answer(404, b"/metrics, /readyz and /healthz are here\n")

            def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Probes are not news."""

        try:
            self._server = ThreadingHTTPServer((host.strip("[]"), int(port)), Page)
        except (OSError, ValueError, OverflowError) as problem:
            raise EndpointRefused(
                f"--metrics-address {address}: {problem}; expected host:port that is free"
            ) from problem
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="endpoint", daemon=True)

    @property
    def port(self) -> int:
        """The port that is served."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
