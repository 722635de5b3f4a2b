"""Write Events (events.k8s.io/v1) about decisions, without ever holding up who decides.

``record`` puts into a bounded queue; a thread writes. The same thing said again within six minutes becomes
a series: one Event whose count is updated at most every ten seconds, as client-go does
(tools/events). Each object has a token bucket, so that one flapping workload cannot fill etcd. Whatever
is not written is counted: ``dropped`` (queue full), ``limited`` (bucket empty), ``failed`` (API server).

An API server that is away does not get the backlog later: Events are news, not records.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cluster.client import JSON, MERGE_PATCH, Api, ApiError
from cluster.times import micro_time
from cluster.wire import ObjectReference

log = logging.getLogger(__name__)

_NOTE_BYTES = 1024  # the API server's limit
_NAME_LENGTH = 253
_SERIES_SECONDS = 360.0
_UPDATE_SECONDS = 10.0
_WRITE_SECONDS = 5.0
_REMEMBERED = 4096  # series and buckets kept in memory


@dataclass(frozen=True, slots=True)
class _News:
    regarding: ObjectReference
    reason: str
    note: str
    type: str
    action: str


@dataclass(slots=True)
class _Series:
    path: str
    count: int
    last_seconds: float
    written_seconds: float
    written_count: int = 1


class _Buckets:
    """A token bucket an object: ``burst`` events at once, then one every ``refill_seconds``."""

    def __init__(self, burst: int, refill_seconds: float) -> None:
        self._burst = burst
        self._refill = refill_seconds
        self._levels: OrderedDict[tuple[str, str, str], tuple[float, float]] = OrderedDict()

    def take(self, regarding: ObjectReference, now: float) -> bool:
        key = (regarding.kind, regarding.namespace, regarding.name)
        level, at = self._levels.pop(key, (float(self._burst), now))
        level = min(float(self._burst), level + (now - at) / self._refill)
        allowed = level >= 1.0
        self._levels[key] = (level - 1.0 if allowed else level, now)
        while len(self._levels) > _REMEMBERED:
            self._levels.popitem(last=False)
        return allowed


class EventRecorder:
    """Records Events of one component. ``start`` before use, ``stop`` to write out what is queued."""

    def __init__(
        self,
        api: Api,
        component: str,
        *,
        instance: str = "",
        queue_size: int = 1000,
        burst: int = 25,
        refill_seconds: float = 15.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``component`` is a qualified name such as ``slicewise.io/controller``; ``instance`` tells
        replicas apart (the pod's name). ``burst`` and ``refill_seconds`` limit the events of an object."""
        self.written = self.dropped = self.limited = self.failed = 0
        self._api = api
        self._component = component
        self._instance = (instance or component)[:128]
        self._queue: queue.Queue[_News | None] = queue.Queue(queue_size)
        self._buckets = _Buckets(burst, refill_seconds)
        self._series: OrderedDict[_News, _Series] = OrderedDict()
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name="event recorder", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Write out what is queued and end the thread."""
        self._stopping.set()
        with suppress(queue.Full):  # only wakes the thread, which looks at the flag after each event
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def record(
        self,
        regarding: ObjectReference,
        reason: str,
        note: str,
        type: str = "Normal",  # noqa: A002 - the API's own name
        action: str = "Decide",
    ) -> None:
        """Say something about ``regarding``; returns at once and never raises.

        ``reason`` comes from ``cluster.event_reasons``; ``type`` is Normal or Warning; ``action`` is the
        verb of what was done. Notes longer than the API's limit are cut.
        """
        news = _News(regarding, reason, _cut(note), type, action)
        try:
            self._queue.put_nowait(news)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        while True:
            try:
                news = self._queue.get(timeout=_UPDATE_SECONDS / 2)
            except queue.Empty:
                news = None
            if news is not None:
                self._take(news, self._clock())
            ending = self._stopping.is_set() and self._queue.empty()
            if news is None or ending:
                self._update_series(self._clock(), final=ending)
            if ending:
                return

    def _take(self, news: _News, now: float) -> None:
        """Write the news, or count it into the series that it continues."""
        series = self._series.get(news)
        if series is not None and now - series.last_seconds <= _SERIES_SECONDS:
            series.count += 1
            series.last_seconds = now
            self._update_series(now)
            return
        if not self._buckets.take(news.regarding, now):
            self.limited += 1
            return
        path = self._create(news, now)
        if path is not None:
            self._series[news] = _Series(path, 1, now, now)
            self._series.move_to_end(news)
            while len(self._series) > _REMEMBERED:
                self._series.popitem(last=False)

    def _create(self, news: _News, now: float) -> str | None:
        namespace = news.regarding.namespace or "default"
        name = f"{news.regarding.name[: _NAME_LENGTH - 20]}.{time.time_ns():x}"
        collection = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        body: dict[str, Any] = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": micro_time(now),
            "reportingController": self._component,
            "reportingInstance": self._instance,
            "action": news.action,
            "reason": news.reason,
            "regarding": news.regarding,
            "note": news.note,
            "type": news.type,
        }
        return f"{collection}/{name}" if self._write("POST", collection, body) else None

    def _update_series(self, now: float, *, final: bool = False) -> None:
        for news, series in list(self._series.items()):
            due = final or now - series.written_seconds >= _UPDATE_SECONDS
            if series.count > series.written_count and due:
                body = {
                    "series": {"count": series.count, "lastObservedTime": micro_time(series.last_seconds)}
                }
                self._write("PATCH", series.path, body)
                series.written_seconds, series.written_count = now, series.count
            if now - series.last_seconds > _SERIES_SECONDS:
                del self._series[news]

    def _write(self, method: str, path: str, body: dict[str, Any]) -> bool:
        try:
            content_type = JSON if method == "POST" else MERGE_PATCH
            self._api.request(
                method, path, body=body, content_type=content_type, read_timeout_seconds=_WRITE_SECONDS
            )
        except ApiError as error:
            self.failed += 1
            log.warning("event not written: %s", error)
            return False
        self.written += 1
        return True


def _cut(note: str) -> str:
    data = note.encode()
    if len(data) <= _NOTE_BYTES:
        return note
    return data[: _NOTE_BYTES - 3].decode(errors="ignore") + "…"
