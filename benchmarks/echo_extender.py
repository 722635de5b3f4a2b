"""The cheapest possible extender: every node passes, every node scores 0; ``python -m
benchmarks.echo_extender --listen HOST:PORT``.

Raw ASGI, node names copied from request to answer. What it costs kube-scheduler is the cost of the protocol
itself (JSON of all names both ways), so our own cost is what comes on top.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class _Args(msgspec.Struct):
    node_names: list[str] = msgspec.field(name="NodeNames", default_factory=list)


_DECODER = msgspec.json.Decoder(_Args)
_ENCODER = msgspec.json.Encoder()


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request."""
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer: object = "ok"
    if scope["path"].endswith("/filter"):
        answer = {"NodeNames": _DECODER.decode(body).node_names, "FailedNodes": {}, "Error": ""}
    elif scope["path"].endswith("/prioritize"):
        answer = [{"Host": name, "Score": 0} for name in _DECODER.decode(body).node_names]
    content = _ENCODER.encode(answer)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def main() -> None:
    """Serve until killed."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    host, _, port = flags.parse_args().listen.rpartition(":")
    uvicorn.run(
        application,
        host=host,
        port=int(port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=120,
    )


if __name__ == "__main__":
    main()
