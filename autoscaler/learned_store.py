"""Keeps what was learned about the workloads over restarts: ConfigMap ``slicewise-autoscaler-memory``.

One JSON object under ``memory.json``: by workload, the text that ``State.remembered`` gives. Above some
thousand workloads it is spread over further ConfigMaps, ``slicewise-autoscaler-memory-1`` and so on
(``cluster.spread_texts``), up to 16. It is read when this process begins to lead, before the first
decisions, and written at most once a minute, only when it has changed and never before it was read, beside
the rounds: making the texts of a thousand workloads and writing them takes 0.2 s that no decision needs.
Where there are more, they have their turns, one ConfigMap after the other, about ``TURN_BYTES`` a minute:
what a write costs us and etcd does not grow with the workloads. A workload that no policy names any more is
dropped at its next turn. Losing a ConfigMap costs hours of learning about its workloads and nothing else, so
no failure here ever stops a decision: it is said once and tried again, a read of everything at the next
round, one of a part or a write a minute later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor
from typing import Final, TypeAlias

from autoscaler.targets import Target
from cluster.client import Api
from cluster.spread_texts import SpreadTexts, json_object

log = logging.getLogger(__name__)

CONFIG_MAP: Final = "slicewise-autoscaler-memory"
KEY: Final = "memory.json"
PERIOD_SECONDS: Final = 60.0
TURN_BYTES: Final = 1_000_000

TextOf: TypeAlias = Callable[[Target], str]
"""Makes the text of a target; called where it is written."""


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
            api,
            namespace,
            CONFIG_MAP,
            json_object(KEY),
            "autoscaler-memory",
            "a restart forgets what was learned",
        )
        self._executor, self._may_write = executor, may_write
        self._period_seconds, self._clock = period_seconds, clock
        self._lock = threading.Lock()  # one reads or writes at a time; never held by who only asks
        self._known: Mapping[str, str] | None = None
        self._next_write_seconds = self._next_read_seconds = float("-inf")
        self._writing = False

    def begin(self, targets: Iterable[Target]) -> Collection[Target]:
        """Read what is there, unless it was read since this process began to lead; those of the targets about
        which what is kept is known only now.
        """
        if self._known is None:
            with self._lock:  # what an earlier lead still writes comes first
                self._known = self._texts.read()
            self._next_read_seconds = self._clock() + self._period_seconds
            return [] if self._known is None else [one for one in targets if not self._unread(one)]
        if self._writing or self._texts.complete or self._clock() < self._next_read_seconds:
            return []
        self._next_read_seconds = self._clock() + self._period_seconds
        late = [one for one in targets if self._unread(one)]
        with self._lock:
            self._known = {**self._known, **self._texts.read_rest()}
        return [one for one in late if not self._unread(one)]

    def text_of(self, target: Target) -> str:
        """What was learned about ``target``; empty when nothing is known."""
        return (self._known or {}).get(_name(target), "")

    @property
    def due(self) -> bool:
        """Whether ``keep`` would write now, were something new."""
        return self._known is not None and not self._writing and self._clock() >= self._next_write_seconds

    def keep(self, targets: Iterable[Target], text_of: TextOf) -> None:
        """Write what is learned now about those of the targets whose turn it is; a workload with an empty
        text keeps what was known about it.
        """
        known = self._known
        if known is None or not self.due:
            return
        self._next_write_seconds = self._clock() + self._period_seconds
        if self._executor is None:
            self._write(targets, text_of, known)
        else:
            self._writing = True
            self._executor.submit(self._write, targets, text_of, known)

    def forget(self) -> None:
        """The lead is lost: another process writes from here on."""
        self._known = None
        self._next_write_seconds = float("-inf")

    def close(self) -> None:
        """End the executor; what is being written is written."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def _write(self, targets: Iterable[Target], text_of: TextOf, known: Mapping[str, str]) -> None:
        try:
            with self._lock:
                in_turn = self._texts.next_in_turn(TURN_BYTES)
                wanted = {name: text for name, text in known.items() if not in_turn(name)}
                for target in targets:
                    name = _name(target)
                    if in_turn(name) and (text := text_of(target) or known.get(name)):
                        wanted[name] = text
                if self._known is not known or not self._may_write():
                    return
                self._texts.write(wanted)
                # Of another lead that has begun meanwhile more is known than what was written here.
                if self._known is known:
                    self._known = wanted
        except Exception:
            log.exception("what was learned is not kept; it is tried again in %g s", self._period_seconds)
        finally:
            self._writing = False

    def _unread(self, target: Target) -> bool:
        return self._texts.unread(_name(target))


def _name(target: Target) -> str:
    return f"{target.api_version} {target}"
