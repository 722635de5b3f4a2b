"""Remember answers of a provider: ask at most once a refresh period, survive an outage, and do not hammer a
broken source.

- Within ``refresh_seconds`` of a good answer, or until it expires (whichever is sooner), the answer is
  repeated.
- When asking fails, the last good answer stands until its own ``valid_until_seconds``; after that there is no
  data.
- A failure is remembered: the source is asked again after 30 s, then 60, 120, ... at most
  ``refresh_seconds``, and not before the time the source named itself (Retry-After).

No background thread: the caller decides when to ask.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from metrics.carbon.intensity import CarbonProvider, Intensity, Kind
from metrics.samples import NoData

FIRST_RETRY_SECONDS = 30.0

_Answer = TypeVar("_Answer", Intensity, tuple[Intensity, ...])


@dataclass(slots=True)
class _Entry(Generic[_Answer]):
    good: _Answer | None = None
    good_at: float = 0.0
    failure: NoData | None = None
    failures: int = 0
    ask_again_at: float = 0.0


class CachedProvider:
    """A provider in front of another. Safe to use from several threads; one thread at a time asks for a zone,
    so that the wait of the others is bounded by the inner provider's timeout.
    """

    def __init__(self, inner: CarbonProvider, refresh_seconds: float) -> None:
        self._inner = inner
        self._refresh_seconds = refresh_seconds
        self._lock = threading.Lock()
        self._zone_locks: dict[str, threading.Lock] = {}
        self._latest: dict[str, _Entry[Intensity]] = {}
        self._forecast: dict[str, _Entry[tuple[Intensity, ...]]] = {}

    @property
    def source(self) -> str:
        return self._inner.source

    @property
    def kind(self) -> Kind:
        return self._inner.kind

    def latest(self, zone: str, now: float) -> Intensity | NoData:
        with self._zone_lock(zone):
            entry = self._latest.setdefault(zone, _Entry())
            return self._answer(entry, zone, now, self._inner.latest, _one_expiry)

    def forecast(self, zone: str, now: float) -> tuple[Intensity, ...] | NoData:
        with self._zone_lock(zone):
            entry = self._forecast.setdefault(zone, _Entry())
            answer = self._answer(entry, zone, now, self._inner.forecast, _last_expiry)
        if isinstance(answer, NoData):
            return answer
        return tuple(step for step in answer if step.valid_until_seconds > now)

    def _zone_lock(self, zone: str) -> threading.Lock:
        with self._lock:
            return self._zone_locks.setdefault(zone, threading.Lock())

    def _answer(
        self,
        entry: _Entry[_Answer],
        zone: str,
        now: float,
        ask: Callable[[str, float], _Answer | NoData],
        expiry: Callable[[_Answer], float],
    ) -> _Answer | NoData:
        good = entry.good if entry.good is not None and now < expiry(entry.good) else None
        fresh = good is not None and now < entry.good_at + self._refresh_seconds
        if fresh or now < entry.ask_again_at:
            return good if good is not None else self._absent(entry)
        answer = ask(zone, now)
        if isinstance(answer, NoData):
            wait = min(FIRST_RETRY_SECONDS * 2**entry.failures, self._refresh_seconds)
            entry.failures = min(entry.failures + 1, 16)
            entry.failure = answer
            entry.ask_again_at = now + max(wait, answer.retry_after_seconds or 0.0)
            return good if good is not None else self._absent(entry)
        entry.good, entry.good_at = answer, now
        entry.failure, entry.failures, entry.ask_again_at = None, 0, 0.0
        return answer

    @staticmethod
    def _absent(entry: _Entry[_Answer]) -> NoData:
        return entry.failure or NoData("the last answer has expired", "stale")


def _one_expiry(answer: Intensity) -> float:
    return answer.valid_until_seconds


def _last_expiry(answer: tuple[Intensity, ...]) -> float:
    return max((step.valid_until_seconds for step in answer), default=0.0)
