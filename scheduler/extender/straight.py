"""The straight way for the two requests that come with every pod: bytes of the socket to verb and back.

uvicorn's parser, the ASGI messages and the task of a request cost more processor time than a decision. A
request that looks as kube-scheduler sends it (POST to a hot path, HTTP/1.1, JSON, a length, nothing that has
to be negotiated) is cut out of the stream here, decided and answered in one write. Anything else goes to
uvicorn byte for byte as it came; so does every byte while uvicorn is in the middle of a request. The answers
are the same either way.

What a verb wants done ``afterwards`` runs once the answer is on its way, not before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from scheduler.extender.exchange import JSON, Answer, Hot, HotPath
from scheduler.extender.one_write import OneWriteProtocol

_END: Final = b"\r\n\r\n"
_LONGEST_HEAD = 16 * 1024
_NOT_HERE = (b"transfer-encoding", b"expect", b"upgrade", b"connection", b"content-encoding")
_REASONS: Mapping[int, bytes] = {200: b"200 OK", 400: b"400 Bad Request", 503: b"503 Service Unavailable"}


class Wanted:
    """A request whose body is still arriving."""

    __slots__ = ("hot", "missing", "parts", "started")

    def __init__(self, hot: Hot, length: int, started: float) -> None:
        self.hot, self.missing, self.started = hot, length, started
        self.parts: list[bytes] = []

    def take(self, data: bytes) -> bytes:
        """Take what belongs to the body; return what is left over."""
        part = data[: self.missing]
        self.parts.append(part)
        self.missing -= len(part)
        return data[len(part) :]


def read_head(data: bytes, hot: Mapping[bytes, Hot], limit: int) -> tuple[Hot, int, int] | None:
    """The verb, where the body starts and its length; None for a request that is uvicorn's to serve.

    ``hot``: verbs by request line. ``limit``: largest body in bytes.
    """
    end = data.find(_END, 0, _LONGEST_HEAD)
    if end < 0:
        return None
    line, *fields = data[:end].split(b"\r\n")
    verb = hot.get(line)
    if verb is None:
        return None
    length, is_json = -1, False
    for field in fields:
        name, _, value = field.partition(b":")
        name, value = name.lower(), value.strip()
        if name == b"content-length":
            if length >= 0 or not value.isdigit():
                return None
            length = int(value)
        elif name == b"content-type":
            is_json = value.partition(b";")[0].strip().lower() == JSON.encode()
        elif name in _NOT_HERE or name.strip() != name:
            return None
    if not is_json or not 0 <= length <= limit:
        return None
    return verb, end + len(_END), length


class StraightProtocol(OneWriteProtocol):
    """uvicorn's protocol with the straight way before it."""

    _wanted: Wanted | None = None
    _parsing = False
    _closing = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection."""
        super().connection_made(transport)
        app = self.app
        self._path = app if isinstance(app, HotPath) else None
        lines = {} if self._path is None else self._path.hot
        self._hot = {b"POST %b HTTP/1.1" % path.encode(): hot for path, hot in lines.items()}

    def data_received(self, data: bytes) -> None:
        """Serve what the straight way can serve; hand the rest on."""
        if self._wanted is None and (self._path is None or not self._idle()):
            super().data_received(data)
            return
        assert self._path is not None
        while data:
            if self._wanted is None:
                found = read_head(data, self._hot, self._path.exchange.max_body_bytes())
                if found is None:
                    super().data_received(data)
                    return
                self._unset_keepalive_if_required()
                hot, start, length = found
                self._wanted = Wanted(hot, length, time.perf_counter())
                data = data[start:]
            data = self._wanted.take(data)
            if self._wanted.missing:
                return
            wanted, self._wanted = self._wanted, None
            self._serve(self._path, wanted)
            if self._closing or self.transport.is_closing():
                return

    def on_message_begin(self) -> None:
        """uvicorn's parser has started on a request."""
        self._parsing = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """It has seen the end of it."""
        self._parsing = False
        super().on_message_complete()

    def shutdown(self) -> None:
        """Close the connection, after the request under way."""
        if self._wanted is not None:
            self._closing = True
        else:
            super().shutdown()

    def _idle(self) -> bool:
        return (
            not self._parsing and (self.cycle is None or self.cycle.response_complete) and not self.pipeline
        )

    def _serve(self, path: HotPath, wanted: Wanted) -> None:
        body = wanted.parts[0] if len(wanted.parts) == 1 else b"".join(wanted.parts)
        answer = path.exchange.decide(wanted.hot.verb, wanted.hot.decide, body, wanted.started)
        self.transport.write(_head(answer, closing=answer.closing or self._closing) + answer.content)
        self.server_state.total_requests += 1
        if answer.closing or self._closing:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        if wanted.hot.afterwards is not None:
            self.loop.call_soon(wanted.hot.afterwards)


def _head(answer: Answer, *, closing: bool) -> bytes:
    return (
        b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nserver-timing: %b\r\n%b\r\n"
        % (
            _REASONS[answer.code],
            len(answer.content),
            answer.timing.encode(),
            b"connection: close\r\n" if closing else b"",
        )
    )
