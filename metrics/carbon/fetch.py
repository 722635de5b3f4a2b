"""GET a JSON document from a carbon API within one deadline and one size, or say in plain words why not.

Every way in which a web API fails becomes a ``NoData`` with a reason a person understands: no connection, too
slow, redirect, 401/403 (credentials), 404 (no such zone), 429 (rate limit, with the time to come back), 5xx,
an answer that is no JSON. Tokens never appear in a reason. Redirects are not followed: a token must not
travel to another host.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import httpx2

from metrics.samples import NoData

TIMEOUT_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 4 * 2**20
RATE_LIMIT_SECONDS: Final = 60.0
"""How long to stay away after a 429 that does not say."""

Document: TypeAlias = Mapping[str, Any]


class JsonApi:
    """One API under one base URL. Safe to use from several threads."""

    def __init__(self, name: str, base_url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.name = name
        self._timeout_seconds = timeout_seconds
        self._base_url = base_url.rstrip("/")
        self._client = httpx2.Client(
            timeout=timeout_seconds,
            headers={"Accept": "application/json"},
            follow_redirects=False,
            # A question every few minutes: a connection kept open would be stale by then, and would leak when
            # the policy replaces the provider.
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    def get(
        self,
        path: str,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
    ) -> Document | NoData:
        """The JSON object at ``path``."""
        deadline = time.monotonic() + self._timeout_seconds
        too_slow = NoData(f"{self.name} took longer than {self._timeout_seconds:g} s", "timeout")
        try:
            with self._client.stream(
                "GET", self._base_url + path, params=parameters, headers=headers, auth=basic
            ) as response:
                if response.status_code != 200:
                    return self._refused(response)
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        return NoData(
                            f"{self.name} answered with more than {MAX_ANSWER_BYTES} bytes", "malformed"
                        )
                    if time.monotonic() > deadline:
                        return too_slow
        except httpx2.TimeoutException:
            return too_slow
        except (httpx2.RequestError, httpx2.InvalidURL) as problem:
            return NoData(f"cannot reach {self.name} at {self._base_url}: {problem}", "outage")
        try:
            document = json.loads(bytes(body))
        except ValueError:
            return NoData(f"{self.name} answered with something that is not JSON", "malformed")
        if not isinstance(document, dict):
            return self.malformed("a JSON object")
        return document

    def malformed(self, expected: str) -> NoData:
        """The answer is JSON of another form than the interface promises."""
        return NoData(f"{self.name} answered without {expected}", "malformed")

    def _refused(self, response: httpx2.Response) -> NoData:
        status = response.status_code
        if status in (401, 403):
            return NoData(
                f"{self.name} refused the credentials ({status}); check carbon.tokenFile and its plan",
                "refused",
            )
        if status == 404:
            return NoData(f"{self.name} knows no such zone or path (404)", "misconfigured")
        if status == 429:
            wait = response.headers.get("Retry-After", "")
            seconds = float(wait) if wait.isdecimal() else RATE_LIMIT_SECONDS
            return NoData(
                f"{self.name} limits our rate (429); asking again after {seconds:g} s", "refused", seconds
            )
        if 300 <= status < 400:
            where = response.headers.get("Location", "nowhere")
            return NoData(
                f"{self.name} redirects to {where}; set carbon.url to the final address", "misconfigured"
            )
        if status >= 500:
            return NoData(f"{self.name} is in trouble itself ({status})", "outage")
        return NoData(f"{self.name} refused the request ({status})", "refused")


def read_secret(path: str) -> str | NoData:
    """Content of a token file, stripped; read for each request, so that a rotated secret is followed."""
    try:
        with open(path, encoding="utf-8") as file:
            secret = file.read().strip()
    except OSError as problem:
        return NoData(f"cannot read carbon.tokenFile {path}: {problem.strerror}", "misconfigured")
    except UnicodeDecodeError:
        return NoData(f"carbon.tokenFile {path} is not text", "misconfigured")
    if not secret or not secret.isascii() or "\n" in secret:
        return NoData(f"carbon.tokenFile {path}: expected one line of ASCII text", "misconfigured")
    return secret


def instant(value: Any) -> float | None:
    """Unix seconds of an ISO 8601 text; without a zone it is UTC; ``None`` when it is no such text."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def number(value: Any) -> float | None:
    """A finite number that is 0 or more; ``None`` for anything else (booleans and text too)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
