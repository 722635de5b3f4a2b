"""The driver's watchman: looks at cards, claims and sockets while nobody asks for anything.

Health events are followed at once; every ``refresh_seconds`` everything is looked at. What a claim holds that
has been gone from the API server for ``stale_claim_seconds`` is given back: the kubelet may have lost its own
list. A MIG instance in use refuses to go, so nothing is taken from under a running program.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from dra.cards import CardRefused, Cards
from dra.driver.api import ApiAway, ClaimReader
from dra.driver.checkpoint import CheckpointRefused
from dra.driver.driver import Driver
from dra.driver.view import View
from dra.plugin.handler import ClaimRef
from dra.plugin.sockets import PluginServer
from node.options import ServeOptions

log = logging.getLogger(__name__)

_EVENT_WAIT_SECONDS = 1.0
_ASK_SERVER_SECONDS = 600.0
_MOST_KINDS = 3
_MIG_CHANGED = "mig-changed"


class Keeper:
    """One thread. ``looked`` hears the view before and after each look; ``ask_server`` may raise ApiAway."""

    def __init__(
        self,
        options: ServeOptions,
        cards: Cards,
        driver: Driver,
        claims: ClaimReader,
        sockets: PluginServer,
        *,
        unprepare: Callable[[Sequence[ClaimRef]], Mapping[str, str]],
        ask_server: Callable[[], object],
        looked: Callable[[View, View], None],
    ) -> None:
        self._options = options
        self._cards = cards
        self._driver = driver
        self._claims = claims
        self._sockets = sockets
        self._unprepare = unprepare
        self._ask_server = ask_server
        self._looked = looked
        self._gone_since: dict[str, float] = {}
        self._stopping = threading.Event()
        self._turned_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def problem(self) -> str:
        """Why the process should be restarted: the thread no longer turns; else ""."""
        if self._turned_at is None:
            return ""
        silent = time.monotonic() - self._turned_at
        limit = 60.0 + 4 * self._options.refresh_seconds
        return f"the cards were last looked at {silent:.0f} s ago" if silent > limit else ""

    def _run(self) -> None:
        """Until the end: health events at once, and every ``refresh_seconds`` a look at everything."""
        looked_at = time.monotonic()
        asked_at = looked_at
        while not self._stopping.is_set():
            kinds = self._events()
            now = time.monotonic()
            self._turned_at = now
            due = now - looked_at >= self._options.refresh_seconds
            if not (kinds or due):
                continue
            before = self._driver.view
            try:
                view = self._driver.refresh(cards=due or kinds != {_MIG_CHANGED})
            except (CardRefused, CheckpointRefused, OSError) as problem:
                log.warning("cards not read: %s", problem)
                continue
            self._looked(before, view)
            if due:
                looked_at = now
                self._give_back_stale(view, now)
                self._mend_sockets()
            if due and now - asked_at >= _ASK_SERVER_SECONDS:
                asked_at = now
                with suppress(ApiAway):  # the publisher says it when it matters
                    self._ask_server()

    def _events(self) -> set[str]:
        """The kinds of event of the next moment, all that came together."""
        kinds: set[str] = set()
        wait = min(_EVENT_WAIT_SECONDS, self._options.refresh_seconds)
        try:
            while (event := self._cards.wait_event(0.0 if kinds else wait)) is not None:
                kinds.add(event.kind)
                if event.kind != _MIG_CHANGED:
                    log.warning("GPU %s: %s %d", event.gpu_uuid, event.kind, event.code)
                if len(kinds) > _MOST_KINDS or self._stopping.is_set():
                    break
        except CardRefused as problem:
            log.warning("health events: %s", problem)
            self._stopping.wait(_EVENT_WAIT_SECONDS)
        return kinds

    def _mend_sockets(self) -> None:
        if not self._sockets.present and not self._stopping.is_set():
            log.warning("the sockets are gone from the kubelet's folders: served anew")
            self._sockets.stop()
            self._sockets.start()

    def _give_back_stale(self, view: View, now: float) -> None:
        """Claims that are gone from the API server, though the kubelet never gave them back."""
        gone: dict[str, float] = {}
        for uid, record in view.checkpoint.claims.items():
            try:
                claim = self._claims.claim(record.namespace, record.name)
            except ApiAway as problem:
                log.info("stale claims not looked for: %s", problem)
                return
            if claim is None or claim.metadata.uid != uid:
                gone[uid] = self._gone_since.get(uid, now)
        self._gone_since = gone
        for uid, since in gone.items():
            if now - since >= self._options.stale_claim_seconds:
                record = view.checkpoint.claims[uid]
                log.warning("claim %s/%s is gone: what it holds is given back", record.namespace, record.name)
                self._unprepare([ClaimRef(record.namespace, record.name, uid)])
