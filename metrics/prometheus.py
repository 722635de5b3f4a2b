"""Ask Prometheus (or Thanos, Mimir, anything with its query API); the only module that imports
prometheus-api-client.

Every question ends in a value or in a ``NoData`` that says what happened: no connection, too slow, an HTTP
error with Prometheus' own words, an answer that is no answer, an empty result. Nothing is retried here: the
caller's loop comes back in seconds, and a retry inside the loop would only make its decisions later. Each
question has a deadline for the whole exchange, not only for each read, and each answer a size limit.

``prometheus_api_client`` is imported when the first ``Prometheus`` is made: it brings ``requests`` (80 ms,
19 MiB); pandas stays outside as long as only its ``PrometheusConnect`` is used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, TypeVar

from metrics.samples import NoData, Sample, Series, Vector

DEFAULT_TIMEOUT_SECONDS: Final = 5.0
MAX_ANSWER_BYTES: Final = 64 * 2**20
PARALLEL_QUERIES: Final = 4

Observer: TypeAlias = Callable[[str, float], None]
"""Told (result, seconds) of every query; results are those of ``label_values.QUERY_RESULTS``."""

_Answer = TypeVar("_Answer", Vector, tuple[Series, ...])


class Prometheus:
    """A Prometheus server. Safe to use from several threads; ``close`` it or use it as a context manager.

    ``bearer_token`` is called for every request, so that a rotated token file is followed. ``ca_file``
    verifies a private CA.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        *,
        headers: Mapping[str, str] | None = None,
        bearer_token: Callable[[], str] | None = None,
        ca_file: str | None = None,
        observer: Observer | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                f"Prometheus URL: got {url!r}, expected one that begins with http:// or https://"
            )
        if not timeout_seconds > 0:
            raise ValueError(f"Prometheus timeout: got {timeout_seconds}, expected more than 0 seconds")
        from prometheus_api_client import PrometheusConnect
        from urllib3.util.retry import Retry

        from metrics.bounded_session import BearerToken, BoundedSession

        self.url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._observer = observer
        session = BoundedSession(max_answer_bytes)
        if ca_file is not None:
            session.verify = ca_file
        self._connect = PrometheusConnect(
            self.url,
            headers={"Accept": "application/json", **(headers or {})},
            session=session,
            retry=Retry(0, read=False),  # a read timeout stays one instead of "retries exceeded"
            auth=BearerToken(bearer_token) if bearer_token is not None else None,
        )
        self._pool = ThreadPoolExecutor(PARALLEL_QUERIES, thread_name_prefix="prometheus")

    def query(self, promql: str, at: float) -> Vector | NoData:
        """Instant query at Unix time ``at``. A scalar result is a vector of one sample without labels."""
        return self._ask(
            time.monotonic() + self._timeout_seconds,
            lambda seconds: self._connect.custom_query(promql, _parameters(seconds, at), seconds),
            lambda result: _vector(result, at),
        )

    def query_many(self, queries: Mapping[str, str], at: float) -> dict[str, Vector | NoData]:
        """All ``queries`` at the same instant, a few at a time, all within one timeout: when Prometheus is
        away, the whole batch takes one timeout and not one a query.
        """
        deadline = time.monotonic() + self._timeout_seconds

        def ask(promql: str) -> Vector | NoData:
            return self._ask(
                deadline,
                lambda seconds: self._connect.custom_query(promql, _parameters(seconds, at), seconds),
                lambda result: _vector(result, at),
            )

        return dict(zip(queries, self._pool.map(ask, queries.values()), strict=True))

    def query_range(
        self, promql: str, start: float, end: float, step_seconds: float
    ) -> tuple[Series, ...] | NoData:
        """Range query; start and end are rounded to whole seconds (the client library does so)."""
        return self._ask(
            time.monotonic() + self._timeout_seconds,
            lambda seconds: self._connect.custom_query_range(
                promql,
                datetime.fromtimestamp(start, UTC),
                datetime.fromtimestamp(end, UTC),
                f"{step_seconds:g}",
                _parameters(seconds),
                seconds,
            ),
            _series,
        )

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._connect.close()

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self, deadline: float, send: Callable[[float], Any], read: Callable[[Any], _Answer | NoData]
    ) -> _Answer | NoData:
        began = time.monotonic()
        answer = self._answer(deadline, send, read)
        if self._observer is not None:
            result = "data"
            if isinstance(answer, NoData):
                result = answer.cause if answer.cause in _OBSERVED_CAUSES else "refused"
            self._observer(result, time.monotonic() - began)
        return answer

    def _answer(
        self, deadline: float, send: Callable[[float], Any], read: Callable[[Any], _Answer | NoData]
    ) -> _Answer | NoData:
        import requests

        from metrics.bounded_session import Refused, TooLarge

        seconds = deadline - time.monotonic()
        if seconds <= 0:
            return self._too_slow()
        here = f"Prometheus at {self.url}"
        try:
            return read(send(seconds))
        except requests.Timeout:
            return self._too_slow()
        except Refused as refused:
            return NoData(f"{here} answered {refused}", "refused", refused.retry_after_seconds)
        except TooLarge as problem:
            return NoData(f"{here}: {problem}", "malformed")
        except requests.exceptions.JSONDecodeError:
            return NoData(f"{here} answered with something that is not JSON", "malformed")
        except requests.RequestException as problem:
            return NoData(f"cannot reach {here}: {_root_cause(problem)}", "outage")
        except OSError as problem:
            return NoData(f"cannot read the token or CA for {here}: {problem}", "misconfigured")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            return NoData(f"{here} answered JSON that is no query result", "malformed")

    def _too_slow(self) -> NoData:
        reason = f"Prometheus at {self.url} took longer than {self._timeout_seconds:g} s"
        return NoData(reason, "timeout")


def token_in(path: str | None) -> Callable[[], str] | None:
    """What reads a bearer token from a file each time it is needed, None for none."""
    if path is None:
        return None

    def read() -> str:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()

    return read


_OBSERVED_CAUSES: Final = frozenset({"empty", "timeout", "outage", "refused", "malformed"})


def _parameters(seconds: float, at: float | None = None) -> dict[str, str]:
    # Prometheus gives up together with us instead of computing on for nobody.
    parameters = {"timeout": f"{math.ceil(seconds * 1000)}ms"}
    return parameters if at is None else {**parameters, "time": f"{at:.3f}"}


def _vector(result: Any, at: float) -> Vector | NoData:
    if len(result) == 2 and not isinstance(result[0], dict):  # a scalar or a string: [time, "value"]
        result = [{"metric": {}, "value": result}]
    if not result:
        return NoData("Prometheus has no such series", "empty")
    samples: list[Sample] = []
    nan_labels: list[Mapping[str, str]] = []
    for series in result:
        if "value" not in series:
            continue  # a native histogram: no number to give
        labels, value = series["metric"], float(series["value"][1])
        if math.isfinite(value):
            samples.append(Sample(labels, value, at))
        else:
            nan_labels.append(labels)
    if not samples and not nan_labels:
        return NoData(
            "the answer holds native histograms only; ask for a quantile or a count of them", "malformed"
        )
    return Vector(tuple(samples), tuple(nan_labels))


def _series(result: Any) -> tuple[Series, ...] | NoData:
    if not result:
        return NoData("Prometheus has no such series", "empty")
    out: list[Series] = []
    for series in result:
        points = [(float(at), float(value)) for at, value in series.get("values", ())]
        finite = tuple(point for point in points if math.isfinite(point[1]))
        out.append(Series(series["metric"], finite, len(points) - len(finite)))
    return tuple(out)


def _root_cause(problem: BaseException) -> str:
    """The innermost cause in a few words: requests wraps urllib3, which wraps the socket's own error."""
    seen: BaseException = problem
    while True:
        inner = getattr(seen, "reason", None) or seen.__cause__ or (seen.args[0] if seen.args else None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    return " ".join(str(seen).split(": ")[-1].split())[:200] or type(seen).__name__
