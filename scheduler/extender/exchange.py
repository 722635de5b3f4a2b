"""One request of kube-scheduler, from ASGI messages to answer: body in with its limits, decision, timing,
status.

Knows ASGI and nothing of FastAPI, so that the verbs that are called for every pod can be served past the
framework's layers (``HotPath``), which cost as much as the decision itself at 1,000 nodes. A request that is
not JSON, not readable or too large gets 415, 400 or 413 with {"error", "got", "expected", "do"}; nothing gets
500.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from metrics.exposition import Exposition
from scheduler.extender.codec import BadRequest, problem

JSON: Final = "application/json"
Decide = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back; ``timing`` is the Server-Timing header's value."""

    code: int
    content: bytes
    timing: str
    closing: bool

    @property
    def headers(self) -> dict[str, str]:
        """The headers besides type and length."""
        closing = {"Connection": "close"} if self.closing else {}
        return {"Server-Timing": self.timing, **closing}


class Exchange:
    """Reads, decides, measures. ``max_body_bytes`` and ``draining`` are asked for each request."""

    def __init__(
        self, exposition: Exposition, max_body_bytes: Callable[[], int], draining: Callable[[], bool]
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self._draining = draining
        self._histogram = exposition.extender.request_duration_seconds
        self._children: dict[tuple[str, int], Any] = {}

    async def answer(
        self, scope: Scope, receive: Receive, verb: str, decide: Decide, *, wait: bool = False
    ) -> Answer:
        """Answer one request; with ``wait`` the decision may block and runs in a thread."""
        started = time.perf_counter()
        try:
            body = await _body(scope, receive, self.max_body_bytes())
        except _Refused as refused:
            return self._answer(verb, refused.code, refused.content, started, time.perf_counter(), 0.0)
        if wait:
            return await asyncio.to_thread(self.decide, verb, decide, body, started)
        return self.decide(verb, decide, body, started)

    def decide(self, verb: str, decide: Decide, body: bytes, started: float) -> Answer:
        """Answer a request whose body is there; ``started``: when it began to come (perf_counter)."""
        arrived, cpu = time.perf_counter(), time.thread_time()
        code = 200
        try:
            content = decide(body)
        except BadRequest as bad:
            code, content = 400, problem(bad.error, got=bad.got, expected=bad.expected, do=bad.do)
        return self._answer(verb, code, content, started, arrived, time.thread_time() - cpu)

    def _answer(
        self, verb: str, code: int, content: bytes, started: float, arrived: float, spent: float
    ) -> Answer:
        done = time.perf_counter()
        self.observe(verb, code, done - started)
        timing = f"read;dur={(arrived - started) * 1e3:.3f}, answer;dur={(done - arrived) * 1e3:.3f}"
        return Answer(code, content, f"{timing}, cpu;dur={spent * 1e3:.3f}", self._draining())

    def observe(self, verb: str, code: int, seconds: float) -> None:
        """Observe into the request histogram, with the label lookups done once."""
        child = self._children.get((verb, code))
        if child is None:
            child = self._children[verb, code] = self._histogram.labels(verb, str(code))
        child.observe(seconds)


@dataclass(frozen=True, slots=True)
class Hot:
    """A verb on the hot path; ``afterwards`` runs when its answer has been sent."""

    verb: str
    decide: Decide
    afterwards: Callable[[], None] | None = None


class HotPath:
    """ASGI application: POST to a hot path is answered here (or before, by ``straight``), everything else by
    ``app``.
    """

    def __init__(self, app: ASGIApp, exchange: Exchange, hot: Mapping[str, Hot]) -> None:
        self._app = app
        self.exchange = exchange
        self.hot = dict(hot)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        hot = self.hot.get(scope["path"]) if scope["type"] == "http" else None
        if hot is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        answer = await self.exchange.answer(scope, receive, hot.verb, hot.decide)
        headers = [
            (b"content-type", JSON.encode()),
            (b"content-length", b"%d" % len(answer.content)),
            (b"server-timing", answer.timing.encode()),
        ]
        if answer.closing:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.code, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})
        if hot.afterwards is not None:
            # In the next turn of the loop: in this one it would hold the answer back.
            asyncio.get_running_loop().call_soon(hot.afterwards)


class _Refused(Exception):
    """A request refused before its body was decoded."""

    def __init__(self, code: int, content: bytes):
        super().__init__(code)
        self.code, self.content = code, content


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes:
    headers = dict(scope["headers"])
    media_type = headers.get(b"content-type", b"").decode("latin-1")
    if media_type.partition(";")[0].strip().lower() != JSON:
        raise _Refused(
            415,
            problem(
                "the content type is not JSON",
                got=media_type or "no Content-Type header",
                expected=JSON,
                do=f"send Content-Type: {JSON}, as kube-scheduler does",
            ),
        )
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(f"{announced.decode()} bytes announced", limit)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _Refused(400, b"")  # the client has gone; nobody reads this
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(f"more than {limit} bytes", limit)
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(got: str, limit: int) -> _Refused:
    return _Refused(
        413,
        problem(
            "the body is too large",
            got=got,
            expected=f"at most {limit} bytes",
            do="set nodeCacheCapable: true for this extender, or raise extender.maxBodyBytes in the policy",
        ),
    )
