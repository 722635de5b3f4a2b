"""One keep-alive HTTPS connection to an API server, for setting a local cluster up.

Small on purpose: creating thousands of objects costs one request each and nothing more. The product itself
talks to clusters through `cluster.client`.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.local.certificates import KeyPair

SUCCESS = frozenset({200, 201, 202})
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_TIMEOUT_SECONDS = 30.0


class RequestRefused(RuntimeError):
    """The server answered with an error status; `status` and `reason` tell cases apart."""

    def __init__(self, method: str, path: str, status: int, body: bytes) -> None:
        self.status = status
        self.reason = ""
        message = body.decode(errors="replace").strip()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if isinstance(answer, Mapping):
            self.reason = str(answer.get("reason", ""))
            message = str(answer.get("message", message))
        super().__init__(f"{method} {path}: status {status}: {message[:2000]}")


@dataclass(frozen=True, slots=True)
class Access:
    """Where a server is and who asks: base URL, the authority to trust, the client's certificate."""

    url: str
    authority: Path
    client: KeyPair


def plain_get(url: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> str:
    """GET an http:// URL on loopback, past any proxy settings. Raises RequestRefused, OSError."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_seconds)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status not in SUCCESS:
        raise RequestRefused("GET", url, response.status, body)
    return body.decode()


class Connection:
    """A connection for one thread; it reconnects by itself when the server closed it between requests."""

    def __init__(self, access: Access, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        parts = urlsplit(access.url)
        context = ssl.create_default_context(cafile=str(access.authority))
        context.load_cert_chain(access.client.certificate, access.client.key)
        self._connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout_seconds, context=context
        )

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        accepted: Collection[int] = SUCCESS,
    ) -> Any:
        """The decoded JSON answer. Raises RequestRefused for another status, OSError where nobody answers."""
        answer = self.raw(method, path, body, content_type, accepted)
        return json.loads(answer) if answer else None

    def text(self, path: str) -> str:
        """The answer to a GET as text, for health checks and metrics."""
        return self.raw("GET", path).decode()

    def raw(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        accepted: Collection[int] = SUCCESS,
    ) -> bytes:
        """The bytes of the answer; `body` is JSON-encoded unless it is bytes already."""
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if payload is not None else {}
        reused = self._connection.sock is not None
        try:
            status, answer = self._exchange(method, path, payload, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            if not reused:
                raise
            # An idle connection was closed under us: the request was not taken.
            status, answer = self._exchange(method, path, payload, headers)
        if status not in accepted:
            raise RequestRefused(method, path, status, answer)
        return answer

    def _exchange(
        self, method: str, path: str, payload: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, payload, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
