"""A web API on loopback that gives recorded-form answers, one a path."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.loopback_pages import Answering, served


@dataclass
class Asked:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class LoopbackApi:
    """``answers[path]``: a JSON-ready value, bytes, (status, value, headers), or a function of the request to
    one of these. Asked requests are kept in ``asked``.
    """

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(asked)
        value = self.answers.get(asked.path, (404, {"error": "no such path"}, {}))
        if isinstance(value, Callable):  # type: ignore[arg-type]
            value = value(asked, handler)
            if value is None:
                return
        status, body, headers = value if isinstance(value, tuple) else (200, value, {})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, text in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, text)
        handler.end_headers()
        handler.wfile.write(content)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def api() -> Iterator[LoopbackApi]:
    loopback = LoopbackApi()

    class Handler(Answering):
        def respond(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            try:
                loopback.answer(
                    Asked(parts.path, query, {k.lower(): v for k, v in self.headers.items()}), self
                )
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client gave up, as some tests want it to

        do_POST = Answering.do_GET  # noqa: N815

    with served(Handler) as port:
        loopback.url = f"http://127.0.0.1:{port}"
        yield loopback
