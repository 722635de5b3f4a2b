"""A requests session that keeps its word about time and size.

``requests`` applies its timeout to each read, so an answer that trickles can last for ever, and it reads
answers of any size into memory. This session ends the exchange at one deadline and one size, follows no
redirects (a login page is not an answer), and turns every status but 200 into ``Refused`` with what the
server said.

Imports ``requests``; import it lazily.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

READ_BYTES = 64 * 1024
ERROR_BYTES = 4096


class TooSlow(requests.Timeout):
    """The exchange was not over at its deadline."""


class TooLarge(requests.RequestException):
    """The answer is larger than allowed; the message says how large that is."""


class Refused(requests.RequestException):
    """The server answered with another status than 200. ``retry_after_seconds``: when it said when to come
    back.
    """

    def __init__(self, said: str, retry_after_seconds: float | None) -> None:
        super().__init__(said)
        self.retry_after_seconds = retry_after_seconds


class BearerToken(requests.auth.AuthBase):
    """Puts a token, read anew for each request, into the Authorization header."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._read().strip()}"
        return request


class Answer(requests.Response):
    """An answer that has been read whole."""

    def json(self, **_: Any) -> Any:
        """Decode the body, at a third of the time that ``json`` takes. Raises JSONDecodeError of requests."""
        try:
            return msgspec.json.decode(self.content)
        except msgspec.DecodeError as problem:
            raise requests.exceptions.JSONDecodeError(str(problem), "", 0) from None


class BoundedSession(requests.Session):
    """Session whose ``timeout`` argument (one number, required) bounds the whole exchange."""

    def __init__(self, max_answer_bytes: int) -> None:
        super().__init__()
        self._max_answer_bytes = max_answer_bytes

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["allow_redirects"] = False
        return super().request(*args, **kwargs)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        deadline = time.monotonic() + kwargs["timeout"]
        kwargs["stream"] = True
        response = super().send(request, **kwargs)
        with response:
            body = self._read(response, deadline)
        if response.status_code != 200:
            raise Refused(_said(response, body[:ERROR_BYTES]), _retry_after_seconds(response))
        response._content = body
        response._content_consumed = True
        response.__class__ = Answer
        return response

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            if time.monotonic() > deadline:
                raise TooSlow
            try:
                # read1 returns what one receive gave; read() would wait for a full block past the deadline.
                part = response.raw.read1(READ_BYTES, decode_content=True)
            except ReadTimeoutError:
                raise TooSlow from None
            except (HTTPError, OSError) as problem:
                raise requests.ConnectionError(f"the answer broke off: {type(problem).__name__}") from problem
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > self._max_answer_bytes:
                raise TooLarge(f"the answer is larger than {self._max_answer_bytes} bytes")


def _said(response: requests.Response, body: bytes) -> str:
    """Status and the server's own words: Prometheus' JSON error, else the first line of the body."""
    text = body.decode("utf-8", "replace").strip()
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        error = text.splitlines()[0] if text else ""
    if 300 <= response.status_code < 400:
        error = f"redirect to {response.headers.get('Location', 'nowhere')}, which is not followed"
    words = " ".join(str(error).split())[:300]
    return f"{response.status_code} {response.reason}" + (f": {words}" if words else "")


def _retry_after_seconds(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None
