"""Call an ASGI application directly, with the body in chosen chunks, and decide what a test wants decided."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import numpy as np

from metrics.exposition import Exposition
from scheduler.extender.app import create_app


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class Outcome:
    passed: list[int]
    failed: dict[str, str] = field(default_factory=dict)
    unresolvable: dict[str, str] = field(default_factory=dict)
    untouched: bool = False
    decided: bool = False


@dataclass
class Scripted:
    """A decider whose answers the test writes; an Exception is raised instead of returned."""

    outcome: object = None
    scores: object = None
    asked: list[object] = field(default_factory=list)
    unknown_nodes: int = 0
    not_understood: int = 0
    refreshed: list[object] = field(default_factory=list)

    def filter(self, pod, names, *, choose=True):
        self.asked.append((pod, list(names)))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome or Outcome(list(range(len(names))), untouched=True)

    def prioritize(self, pod, names):
        self.asked.append((pod, list(names)))
        if isinstance(self.scores, Exception):
            raise self.scores
        return None if self.scores is None else np.array(self.scores, dtype=np.uint8)

    def demand(self, pod):
        return "the demand"

    def refresh(self, shapes=None):
        self.refreshed.append(shapes)


def app_over(decider, **options):
    options.setdefault("exposition", Exposition("slicewise-scheduler", "test"))
    options.setdefault("ready", lambda: {"fleet": True})
    return create_app(decider, **options)


def call(app, path, body=b"", *, method="POST", headers=None, chunks=None):
    """Send one request. ``chunks``: the body in parts; ``body`` may be a value to be sent as JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    parts = [body] if chunks is None else chunks
    if headers is None:
        headers = {"Content-Type": "application/json"}
    left = list(parts)
    consumed, sent = [], []

    async def receive():
        if not left:
            return {"type": "http.disconnect"}
        consumed.append(left.pop(0))
        return {"type": "http.request", "body": consumed[-1], "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": b"", "scheme": "http", "root_path": "",
        "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    answer = Answer(
        sent[0]["status"],
        {k.decode().lower(): v.decode() for k, v in sent[0]["headers"]},
        b"".join(m.get("body", b"") for m in sent[1:]),
    )
    answer.chunks_read = len(consumed)
    return answer
