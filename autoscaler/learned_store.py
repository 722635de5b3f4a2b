"""Keeps what was learned about the workloads over restarts: ConfigMap ``slicewise-autoscaler-memory``.

One JSON object under ``memory.json``: by workload, the text that ``State.remembered`` gives. Above some
thousand workloads it is spread over further ConfigMaps, ``slicewise-autoscaler-memory-1`` and so on
(``cluster.spread_texts``), up to 16. It is read when this process begins to lead, before the first
decisions, and written at most once a minute, only when it has changed and never before it was read, beside
the rounds: making the texts of a thousand workloads and writing them takes 0.2 s that no decision needs. A
workload that no policy names any more is dropped at the next write. Losing the ConfigMap costs hours of
learning and nothing else, so no failure here ever stops a decision: it is said once and tried again, a read
at the next round, a write a minute later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final, TypeAlias

from autoscaler.targets import Target
from cluster.client import Api
from cluster.spread_texts import SpreadTexts

log = logging.getLogger(__name__)

CONFIG_MAP: Final = "slicewise-autoscaler-memory"
KEY: Final = "memory.json"
PERIOD_SECONDS: Final = 60.0

Texts: TypeAlias = Callable[[], Mapping[Target, str]]
"""Makes the texts, by target; called where they are written."""


class LearnedStore:
    """What was learned, by target. Used by the thread that runs the rounds, and by tests."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        *,
        executor: Executor | None = None,
        may_write: Callable[[], bool] = lambda: True,
        period_seconds: float = PERIOD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``executor`` writes; without one ``keep`` does. ``may_write``: whether this process leads, asked
        right before it writes.
        """
        self._texts = SpreadTexts(
            api, namespace, CONFIG_MAP, KEY, "autoscaler-memory", "a restart forgets what was learned"
        )
        self._executor, self._may_write = executor, may_write
        self._period_seconds, self._clock = period_seconds, clock
        self._lock = threading.Lock()  # one reads or writes at a time; never held by who only asks
        self._known: Mapping[str, str] | None = None
        self._next_write_seconds = float("-inf")
        self._writing = False

    def begin(self) -> bool:
        """Read what is there, unless it was read since this process began to lead; whether it was now."""
        if self._known is not None:
            return False
        with self._lock:  # what an earlier lead still writes comes first
            self._known = self._texts.read()
        return self._known is not None

    def text_of(self, target: Target) -> str:
        """What was learned about ``target``; empty when nothing is known."""
        return (self._known or {}).get(_name(target), "")

    @property
    def due(self) -> bool:
        """Whether ``keep`` would write now, were something new."""
        return self._known is not None and not self._writing and self._clock() >= self._next_write_seconds

    def keep(self, texts: Texts) -> None:
        """Write what is learned now; a workload with an empty text keeps what was known about it."""
        known = self._known
        if known is None or not self.due:
            return
        self._next_write_seconds = self._clock() + self._period_seconds
        if self._executor is None:
            self._write(texts, known)
        else:
            self._writing = True
            self._executor.submit(self._write, texts, known)

    def forget(self) -> None:
        """The lead is lost: another process writes from here on."""
        self._known = None
        self._next_write_seconds = float("-inf")

    def close(self) -> None:
        """End the executor; what is being written is written."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def _write(self, texts: Texts, known: Mapping[str, str]) -> None:
        try:
            with self._lock:
                found = {_name(target): text for target, text in texts().items()}
                wanted = {name: text or known.get(name, "") for name, text in sorted(found.items())}
                wanted = {name: text for name, text in wanted.items() if text}
                if wanted == known or self._known is not known or not self._may_write():
                    return
                # Of another lead that has begun meanwhile more is known than what was written here.
                if self._texts.write(wanted) and self._known is known:
                    self._known = wanted
        except Exception:
            log.exception("what was learned is not kept; it is tried again in %g s", self._period_seconds)
        finally:
            self._writing = False


def _name(target: Target) -> str:
    return f"{target.api_version} {target}"
