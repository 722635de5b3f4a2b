"""Mirror one kind of object: list, then watch, and tell a handler about it, for ever.

Protocol: "Efficient detection of changes" of the Kubernetes API concepts; the shape of client-go's Reflector.

- List in pages without a resourceVersion (a consistent read). A page token that expired (410) is answered
  by one list without pages, which cannot expire.
- Watch from the list's resourceVersion with bookmarks. The server ends the watch after ``timeoutSeconds``;
  our read timeout lies above it, so a connection that died silently is found too.
- 410 Gone, as HTTP status or as ERROR event: list again. A broken connection: resume from the last
  version, with growing pauses. A line that is not JSON: resume; twice in a row: list again.
- ``Handler.replaced`` always gets the complete state: what was deleted during a gap is missing from it.
- An object that does not fit its type is skipped and counted; it must not blind us for all others.
- A handler that raises is a defect: recorded, logged, and the state is listed anew.

Keeps no objects itself. Does not decide what stale data mean: it shows its age.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

import msgspec

from cluster.backoff import Backoff
from cluster.client import (
    METADATA_LIST_ONLY,
    METADATA_ONLY,
    Api,
    ApiError,
    ApiRefused,
    Params,
    WatchStream,
)
from cluster.envelopes import Status, list_decoder, object_decoder, raw_list_decoder, watch_decoder
from cluster.wire import HasMetadata, ObjectMeta

log = logging.getLogger(__name__)

T = TypeVar("T", bound=HasMetadata)
T_contra = TypeVar("T_contra", contravariant=True)

_GONE = 410
_NOT_FOUND = 404
_STEADY_SECONDS = 10.0


class Handler(Protocol[T_contra]):
    """Who wants to know. Called in the reflector's own thread, one call at a time."""

    def replaced(self, items: Sequence[T_contra]) -> None:
        """Take ``items`` as the complete present state."""

    def changed(self, kind: str, item: T_contra) -> None:
        """Take one change: ``kind`` is ADDED, MODIFIED or DELETED."""


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    metadata: ObjectMeta = ObjectMeta()


class _GoneError(Exception):
    """The version that we wanted to go on from is no longer kept."""


class _BadLineError(Exception):
    """A watch line that is not a watch event."""


class _HandlerFailedError(Exception):
    """The handler raised; the cause is attached."""


class Reflector(Generic[T]):
    """Mirrors the objects of ``path`` into ``handler``.

    ``synced`` is set after the first complete list was handed over. Plain counters for metrics: ``lists``,
    ``watches``, ``events``, ``bookmarks``, ``gone``, ``failures``, ``handler_failures``, ``objects_refused``;
    ``last_error`` is the newest failure in words, None while all is well.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        kind: type[T],
        handler: Handler[T],
        field_selector: str | None = None,
        label_selector: str | None = None,
        *,
        keep: Callable[[T], bool] | None = None,
        metadata_only: bool = False,
        optional: bool = False,
        look_again_seconds: float = 60.0,
        page_size: int = 2000,
        watch_seconds: int = 180,
        read_margin_seconds: float = 15.0,
        backoff: Backoff | None = None,
        jitter: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``watch_seconds`` limits a watch at the server; we wait ``read_margin_seconds`` longer.

        ``page_size`` bounds what the server and we hold of a list as JSON; each page costs the server a
        pass of its own, so small pages make the first list slow.

        ``keep`` is a selector of our own, for what the server cannot select by: objects that it turns down
        are left out page by page, so that they never pile up in memory, and a change to such an object
        is told as DELETED, as the server does for its selectors (also for one never told before).

        ``metadata_only``: ``kind`` needs the metadata alone, and the server is to send no more.

        ``optional``: a kind that the server does not serve is one without objects, and no failure; it is
        looked for again every ``look_again_seconds``.
        """
        self.path = path
        self.synced = threading.Event()
        self.lists = self.watches = self.events = self.bookmarks = 0
        self.gone = self.failures = self.handler_failures = self.objects_refused = 0
        self.last_error: str | None = None
        self.resource_version = ""
        self._contact_at: float | None = None
        self._watching_since: float | None = None
        self._list_raw = partial(api.list_raw, accept=METADATA_LIST_ONLY) if metadata_only else api.list_raw
        self._open_watch = partial(api.watch, accept=METADATA_ONLY) if metadata_only else api.watch
        self._kind = kind
        self._handler = handler
        self._keep = keep
        self._optional, self._look_again_seconds, self._absent = optional, look_again_seconds, False
        self._selectors: Params = {"fieldSelector": field_selector, "labelSelector": label_selector}
        self._page_size = page_size
        self._watch_seconds = watch_seconds
        self._read_margin_seconds = read_margin_seconds
        self._jitter = jitter or random.Random()
        self._backoff = backoff or Backoff(0.2, 30.0, self._jitter)
        self._clock = clock
        self._stop = threading.Event()
        self._stream: WatchStream | None = None
        self._stream_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"reflector {path}", daemon=True)

    def start(self) -> None:
        """Start the thread; once per reflector."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """End the watch and wait for the thread. Safe to call twice and before ``start``."""
        self._stop.set()
        with self._stream_lock:
            if self._stream is not None:
                self._stream.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread.is_alive()

    @property
    def restarts(self) -> int:
        """How often the state had to be listed again."""
        return max(0, self.lists - 1)

    def age_seconds(self) -> float | None:
        """Seconds since the API server last confirmed the state (list, event or bookmark); None before."""
        return None if self._contact_at is None else max(0.0, self._clock() - self._contact_at)

    # --- the loop -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        bad_lines = 0
        while not self._stop.is_set():
            retry_after: float | None = None
            try:
                if not self.resource_version:
                    self._list()
                if self._absent:
                    self._stop.wait(self._look_again_seconds * self._jitter.uniform(0.8, 1.0))
                    continue
                if self._watch():
                    self._backoff.reset()
                    bad_lines = 0
                    continue
                retry_after = 0.0  # ended at once without news: pause, or we would spin
            except _GoneError:
                self.gone += 1
                self.resource_version = ""
            except _BadLineError as error:
                bad_lines += 1
                if bad_lines > 1:
                    self.resource_version = ""
                self._failed(str(error))
            except _HandlerFailedError as error:
                self.handler_failures += 1
                self.resource_version = ""
                self._failed(str(error), error.__cause__)
            except ApiRefused as error:
                retry_after = error.retry_after_seconds
                if 400 <= error.status < 500 and error.status not in (401, 403, 408, 429):
                    self.resource_version = ""
                if not (self._optional and error.status == _NOT_FOUND):
                    self._failed(str(error))
            except ApiError as error:
                self._failed(str(error))
            except Exception as error:  # noqa: BLE001 - a thread that dies silently would freeze the state
                self.resource_version = ""
                self._failed(f"unexpected {type(error).__name__}: {error}", error)
            if self._watched_long():
                self._backoff.reset()
            self._stop.wait(max(self._backoff.next_seconds(), retry_after or 0.0))

    def _watched_long(self) -> bool:
        """Whether the watch that just ended had lived long enough to call the trouble before it over."""
        since, self._watching_since = self._watching_since, None
        return since is not None and self._clock() - since >= _STEADY_SECONDS

    def _failed(self, words: str, cause: BaseException | None = None) -> None:
        if self._stop.is_set():
            return
        self.failures += 1
        if words != self.last_error or cause is not None:
            log.warning("reflector %s: %s", self.path, words, exc_info=cause)
        self.last_error = words

    def _contact(self) -> None:
        self._contact_at = self._clock()
        self.last_error = None

    # --- list ---------------------------------------------------------------------------------------------

    def _list(self) -> None:
        self._absent = False
        try:
            items, version = self._pages(self._page_size)
        except ApiRefused as refused:
            if refused.status == _GONE:
                items, version = self._pages(None)
            elif refused.status == _NOT_FOUND and self._optional:
                items, version, self._absent = [], "", True
            else:
                raise
        self.lists += 1
        self._tell(lambda: self._handler.replaced(items))
        self.resource_version = version
        self._contact()
        self.synced.set()

    def _pages(self, limit: int | None) -> tuple[list[T], str]:
        items: list[T] = []
        token = ""
        while True:
            params = {**self._selectors, "limit": limit, "continue": token or None}
            data = self._list_raw(self.path, params)
            page, token, version = self._decode_page(data)
            items.extend(page if self._keep is None else filter(self._keep, page))
            if not token:
                return items, version
            if self._stop.is_set():
                raise ApiError("stopped in the middle of a list")

    def _decode_page(self, data: bytes) -> tuple[list[T], str, str]:
        try:
            page = list_decoder(self._kind).decode(data)
        except msgspec.ValidationError:
            return self._decode_items(data)
        except msgspec.DecodeError as error:
            raise ApiError(f"LIST {self.path}: got a page that is not JSON ({error})") from error
        return page.items or [], page.metadata.continue_token, page.metadata.resource_version

    def _decode_items(self, data: bytes) -> tuple[list[T], str, str]:
        """Decode item by item, leaving out those that do not fit."""
        try:
            page = raw_list_decoder().decode(data)
        except msgspec.DecodeError as error:
            raise ApiError(f"LIST {self.path}: got a page that is not a list ({error})") from error
        items: list[T] = []
        for raw in page.items or []:
            try:
                items.append(object_decoder(self._kind).decode(raw))
            except msgspec.DecodeError as error:
                self._refuse_object(error)
        return items, page.metadata.continue_token, page.metadata.resource_version

    def _refuse_object(self, error: msgspec.DecodeError) -> None:
        self.objects_refused += 1
        log.warning("reflector %s: left out an object that does not fit its type: %s", self.path, error)

    # --- watch --------------------------------------------------------------------------------------------

    def _watch(self) -> bool:
        """Follow one watch to its end; return whether it was worth while (news, or a decent length)."""
        # Spread, so that many reflectors do not reconnect in the same second.
        seconds = max(1, round(self._watch_seconds * self._jitter.uniform(0.8, 1.0)))
        started = self._watching_since = self._clock()
        try:
            stream = self._open_watch(
                self.path,
                {
                    **self._selectors,
                    "allowWatchBookmarks": True,
                    "resourceVersion": self.resource_version,
                    "timeoutSeconds": seconds,
                },
                read_timeout_seconds=seconds + self._read_margin_seconds,
            )
        except ApiRefused as refused:
            if refused.status == _GONE:
                raise _GoneError from refused
            raise
        with self._stream_lock:
            self._stream = stream
            if self._stop.is_set():
                stream.close()
        self.watches += 1
        self._contact()
        seen = self.events + self.bookmarks
        try:
            for line in stream:
                self._line(line)
                if self._stop.is_set():
                    break
        finally:
            with self._stream_lock:
                self._stream = None
                stream.close()
        return self.events + self.bookmarks > seen or self._clock() - started >= 1.0

    def _line(self, line: bytes) -> None:
        item: T | None = None
        refused: msgspec.DecodeError | None = None
        try:
            event = watch_decoder().decode(line)
            if event.type == "ERROR":
                self._error(object_decoder(Status).decode(event.object))
            if event.type in ("ADDED", "MODIFIED", "DELETED"):
                try:
                    item = object_decoder(self._kind).decode(event.object)
                except msgspec.DecodeError as error:
                    refused = error
            # Of an object that was decoded the version is known: each event is read once.
            meta = object_decoder(_Metadata).decode(event.object).metadata if item is None else item.metadata
        except msgspec.DecodeError as error:
            raise _BadLineError(
                f"WATCH {self.path}: got {line[:80]!r}, expected a watch event ({error})"
            ) from error
        if event.type == "BOOKMARK":
            self.bookmarks += 1
        elif item is not None:
            found, kept = item, self._keep is None or self._keep(item)
            self._tell(lambda: self._handler.changed(event.type if kept else "DELETED", found))
            self.events += 1
        elif refused is not None:
            self._refuse_object(refused)
            self.events += 1
        else:
            raise _BadLineError(f"WATCH {self.path}: got an event of unknown type {event.type!r}")
        if meta.resource_version:
            self.resource_version = meta.resource_version
        self._contact()

    def _error(self, status: Status) -> None:
        if status.code == _GONE or status.reason in ("Expired", "Gone"):
            raise _GoneError
        self.resource_version = ""
        raise ApiRefused(status.code, status.reason, status.message, where=f"WATCH {self.path}")

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            raise _HandlerFailedError(f"handler raised {type(error).__name__}: {error}") from error
