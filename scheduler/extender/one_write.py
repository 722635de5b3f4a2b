"""Send each answer's head and body in one write.

uvicorn writes the head of a response, then its body. Each write is a system call that wakes kube-scheduler,
which on a busy node takes the processor over before the body has been written: the answer then waits for a
time slice of its own client. Holding the head back until the body follows makes it one call. Nothing else of
uvicorn's protocol changes; ``100 Continue`` is not held.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_START, _HEAD_END, _CONTINUE = b"HTTP/1.", b"\r\n\r\n", b"HTTP/1.1 100"


class Corked:
    """A transport that joins a response's head with the write after it; everything else is the
    transport's own.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or hold a head back until the next write."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD_START) and data.endswith(_HEAD_END) and not data.startswith(_CONTINUE):
            self._head = data
            return
        self._transport.write(data)

    def close(self) -> None:
        """Close once everything is written, a head without a body too."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        self._transport.close()


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol over a corked transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection."""
        super().connection_made(Corked(transport))  # type: ignore[arg-type]
